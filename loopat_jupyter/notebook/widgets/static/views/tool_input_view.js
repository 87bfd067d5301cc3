/**
 * A tool's input, shown exactly as it will run, for a person who decides on it: a command, a change
 * of a file, or the input field by field. Characters that cannot be seen get a visible mark.
 */
import { h } from "../dom/elements.js";
import {
  countInvisible,
  hasOverride,
  splitOverrides,
  visibleSegments,
} from "../dom/text_sanitizer.js";

/**
 * Text as nodes, in left-to-right order, with a mark for each invisible character.
 * @param {string} text
 * @returns {Node[]}
 */
export function withMarks(text) {
  return visibleSegments(text).map((segment) =>
    segment.mark
      ? h("span", { class: "loopat-mark", title: segment.title, dir: "ltr" }, segment.text)
      : document.createTextNode(segment.text),
  );
}

/**
 * Text as nodes, with a mark for each bidirectional override. These reverse the order of letters,
 * and no language needs them.
 * @param {string} text
 * @returns {Node[]}
 */
export function withOverrideMarks(text) {
  return splitOverrides(text).flatMap((piece, index) => {
    if (index % 2 === 1) return withMarks(piece);
    return piece === "" ? [] : [document.createTextNode(piece)];
  });
}

/** Replace the overrides in existing nodes by marks. @param {Node} root */
export function markOverrides(root) {
  if (!hasOverride(root.textContent)) return;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  for (const node of found) node.replaceWith(...withOverrideMarks(node.data));
}

/** A block of text with marks; a long one scrolls, below it stands its number of lines. */
export function markedBlock(text, label) {
  const lines = text.split("\n").length;
  const block = h(
    "pre",
    { class: "loopat-judged", dir: "ltr", tabIndex: 0, role: "region", "aria-label": label },
    h("code", null, ...withMarks(text)),
  );
  return h("div", null, block, note(text, lines));
}

function note(text, lines) {
  const notes = [];
  if (lines > 12) notes.push(`${lines} lines: scroll to see all of it`);
  const unseen = countInvisible(text);
  if (unseen === 1) notes.push("1 character in it cannot be seen; a mark stands in its place");
  if (unseen > 1)
    notes.push(`${unseen} characters in it cannot be seen; marks stand in their place`);
  return notes.length > 0 ? h("p", { class: "loopat-caution" }, `${notes.join("; ")}.`) : null;
}

/**
 * The input of a tool call.
 * @param {string} tool
 * @param {any} input
 * @param {string} [command] the shell command, where the server named it
 * @returns {HTMLElement}
 */
export function toolInputView(tool, input, command) {
  const fields = isRecord(input) ? input : { input };
  if (typeof command === "string")
    return withRest(markedBlock(command, "Command"), fields, command);
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
    h("p", { class: "loopat-path", dir: "ltr" }, ...withMarks(String(path ?? ""))),
    h("pre", { class: "loopat-judged loopat-diff", ...attributes }, ...lines),
    note(text, lines.length),
    Object.keys(rest).length > 0 ? fieldList(rest) : null,
  );
}

function diffLines(text, sign) {
  const kind = sign === "+" ? "loopat-added" : "loopat-removed";
  const label = sign === "+" ? "added: " : "removed: ";
  return text
    .split("\n")
    .map((line) =>
      h(
        "span",
        { class: kind },
        h("span", { class: "loopat-sign", "aria-hidden": "true" }, sign),
        h("span", { class: "loopat-aside" }, label),
        ...withMarks(line),
        "\n",
      ),
    );
}

function fieldList(fields) {
  const rows = Object.entries(fields).flatMap(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    const shown = h("dd", { dir: "ltr" }, ...withMarks(text ?? "undefined"));
    return [h("dt", { dir: "ltr" }, ...withMarks(name)), shown];
  });
  return h("dl", { class: "loopat-fields" }, ...rows);
}
