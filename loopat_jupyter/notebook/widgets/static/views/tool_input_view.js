/**
 * What a person is asked to permit, exactly as it will run: a command, a change of a file, or a
 * tool's input field by field. Whatever could not be seen in it gets a visible mark.
 */
import { h } from "../dom/elements.js";
import { countUnseen, segments } from "../dom/text_sanitizer.js";

/**
 * Text to be judged, as nodes. Order is kept left to right; marks stand for what is unseen.
 * @param {string} text
 * @returns {Node[]}
 */
export function judged(text) {
  return segments(text).map((segment) =>
    segment.mark
      ? h("span", { class: "loopat-mark", title: segment.title, dir: "ltr" }, segment.text)
      : document.createTextNode(segment.text),
  );
}

/**
 * Text that is read, with a mark for each override: those turn letters around, and no language
 * needs them.
 * @param {string} text
 * @returns {Node[]}
 */
export function withoutOverrides(text) {
  return text.split(/([\u202d\u202e])/).flatMap((piece, index) => {
    if (index % 2 === 1) return judged(piece);
    return piece === "" ? [] : [document.createTextNode(piece)];
  });
}

/** Put marks for overrides into nodes that are made already. @param {Node} root */
export function markOverrides(root) {
  if (!/[\u202d\u202e]/.test(root.textContent)) return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  for (const node of found) node.replaceWith(...withoutOverrides(node.data));
}

/** A block of such text; a long one scrolls, and says how long it is. */
export function judgedBlock(text, label) {
  const lines = text.split("\n").length;
  const block = h(
    "pre",
    { class: "loopat-judged", dir: "ltr", tabIndex: 0, role: "region", "aria-label": label },
    h("code", null, ...judged(text)),
  );
  return h("div", null, block, note(text, lines));
}

function note(text, lines) {
  const said = [];
  if (lines > 12) said.push(`${lines} lines: scroll to see all of it`);
  const unseen = countUnseen(text);
  if (unseen === 1) said.push("1 character in it cannot be seen; a mark stands in its place");
  if (unseen > 1)
    said.push(`${unseen} characters in it cannot be seen; marks stand in their place`);
  return said.length > 0 ? h("p", { class: "loopat-caution" }, `${said.join("; ")}.`) : null;
}

/**
 * The input of a tool call, as a person can judge it best.
 * @param {string} tool
 * @param {any} input
 * @param {string} [command] the shell command, where the server named it
 * @returns {HTMLElement}
 */
export function inputView(tool, input, command) {
  const fields = isRecord(input) ? input : { input };
  if (typeof command === "string")
    return withRest(judgedBlock(command, "Command"), fields, command);
  if (tool === "Edit" && typeof fields.old_string === "string") return editView(fields);
  if (tool === "Write" && typeof fields.content === "string") return writeView(fields);
  return h("div", null, fieldList(fields));
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function withRest(block, fields, command) {
  const rest = Object.entries(fields).filter(([, value]) => value !== command);
  return h("div", null, block, rest.length > 0 ? fieldList(Object.fromEntries(rest)) : null);
}

function editView({ file_path: path, old_string: before, new_string: after, ...rest }) {
  const lines = [...diffLines(before, "-"), ...diffLines(String(after ?? ""), "+")];
  return fileChange(path, lines, "Change", before + after, rest);
}

function writeView({ file_path: path, content, ...rest }) {
  return fileChange(path, diffLines(content, "+"), "New content", content, rest);
}

function fileChange(path, lines, label, text, rest) {
  const attributes = { tabIndex: 0, role: "region", "aria-label": label, dir: "ltr" };
  return h(
    "div",
    null,
    h("p", { class: "loopat-path", dir: "ltr" }, ...judged(String(path ?? ""))),
    h("pre", { class: "loopat-judged loopat-diff", ...attributes }, ...lines),
    note(text, lines.length),
    Object.keys(rest).length > 0 ? fieldList(rest) : null,
  );
}

function diffLines(text, sign) {
  const kind = sign === "+" ? "loopat-added" : "loopat-removed";
  const said = sign === "+" ? "added: " : "removed: ";
  return text
    .split("\n")
    .map((line) =>
      h(
        "span",
        { class: kind },
        h("span", { class: "loopat-sign", "aria-hidden": "true" }, sign),
        h("span", { class: "loopat-aside" }, said),
        ...judged(line),
        "\n",
      ),
    );
}

function fieldList(fields) {
  const rows = Object.entries(fields).flatMap(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    const shown = h("dd", { dir: "ltr" }, ...judged(text ?? "undefined"));
    return [h("dt", { dir: "ltr" }, ...judged(name)), shown];
  });
  return h("dl", { class: "loopat-fields" }, ...rows);
}
