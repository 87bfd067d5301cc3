/**
 * Markdown that an agent wrote, as DOM nodes, safely, and while it is still being written.
 *
 * `marked` reads it; raw HTML in it is shown as the text it is; `DOMPurify` makes nodes of the
 * result under a narrow list of what may be there. No image is loaded (an address can carry away
 * what the agent knows): it becomes a link. Links go to http, https and mailto, in a new tab,
 * telling nothing about where they were.
 *
 * A growing text is read block by block: blocks that are complete are made once and stay; only
 * the last one is read again, at most once a frame, and less often when it is large.
 */
import { h } from "../dom/elements.js";
import { markOverrides } from "./tool_input_view.js";
import { plain } from "../dom/text_sanitizer.js";
import DOMPurify from "../vendor/dompurify/purify.min.cjs";
import { Marked } from "../vendor/marked/marked.esm.js";

const LINK = /^(?:https?:|mailto:)/i;
const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a".split(" "),
    ..."table thead tbody tr th td input sup sub".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "align", "start", "type", "checked", "disabled", "class"],
  ALLOWED_URI_REGEXP: LINK,
  ADD_URI_SAFE_ATTR: ["align", "start"], // their values are no addresses, and are not judged as such
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const escaped = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escaped(text.trimEnd())}</p>` : escaped(text)),
    image({ href, text }) {
      const label = escaped(`image: ${text || href}`);
      return LINK.test(href) ? `<a href="${escaped(href)}">${label}</a>` : label;
    },
  },
});

/**
 * @param {string} text a piece of Markdown
 * @returns {DocumentFragment}
 */
export function render(text) {
  return fragment(marked.parse(text));
}

function fragment(html) {
  const nodes = DOMPurify.sanitize(html, ALLOWED);
  const blocks = [...nodes.querySelectorAll("pre")].map((pre) => [pre, languageOf(pre)]);
  for (const element of nodes.querySelectorAll("[class]")) element.removeAttribute("class");
  for (const [pre, language] of blocks) {
    pre.replaceWith(copyable(pre.textContent.replace(/\n$/, ""), language));
  }
  for (const link of nodes.querySelectorAll("a")) openElsewhere(link);
  for (const table of nodes.querySelectorAll("table")) frame(table);
  for (const box of nodes.querySelectorAll("input")) tick(box);
  for (const block of nodes.children) block.setAttribute("dir", "auto");
  markOverrides(nodes);
  return nodes;
}

function languageOf(pre) {
  return /language-([\w+#.-]{1,30})/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";
}

/** A wide table scrolls in a frame of its own. */
function frame(table) {
  const around = { class: "loopat-table", tabIndex: 0, role: "group", "aria-label": "Table" };
  const element = h("div", around);
  table.replaceWith(element);
  element.append(table);
}

/** Of inputs there are the check boxes of task lists, and they are only shown. */
function tick(box) {
  box.replaceWith(box.checked ? "☑" : "☐");
}

function openElsewhere(link) {
  if (!LINK.test(link.getAttribute("href") ?? "")) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = link.href; // what it says and where it leads may differ
}

/**
 * A block of code with a button that copies it.
 * @param {string} text
 * @param {string} [label] such as the language
 * @returns {HTMLElement}
 */
export function copyable(text, label = "") {
  const code = h("code", { dir: "ltr" }, text);
  const button = h("button", { type: "button", class: "loopat-copy", "aria-label": "Copy code" });
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(text, button));
  return h(
    "div",
    { class: "loopat-code", data: { loopatCode: label } },
    h("div", { class: "loopat-code-bar" }, h("span", null, label), button),
    h(
      "pre",
      { tabIndex: 0, "aria-label": label ? `Code, ${label}` : "Code", role: "region" },
      code,
    ),
  );
}

async function copy(text, button) {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    said = "Select it and press Ctrl+C"; // no permission, or no secure page
  }
  button.textContent = said;
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/** How long the unfinished block may get before it is divided, in characters. */
const LONG_BLOCK = 16_000;

/** The nodes of a text that grows. */
export class MarkdownView {
  #shown = 0; // characters of the text that have been read
  #tail = "";
  #tailNodes = [];
  #due = 0; // ms: not to be read again before
  #complete = false;

  constructor() {
    this.el = h("div", { class: "loopat-markdown" });
  }

  /**
   * Show `text`, which begins with what was shown before.
   * @param {string} text
   * @param {boolean} final nothing more will come
   * @returns {boolean} false when it is to be called again soon
   */
  update(text, final) {
    if (text.length === this.#shown && (!final || this.#complete)) return true;
    this.#complete = final;
    const begun = performance.now();
    if (begun < this.#due && !final) return false;
    this.#tail += text.slice(this.#shown);
    this.#shown = text.length;
    this.#read();
    const took = performance.now() - begun;
    this.#due = begun + took * 12; // at most a twelfth of the time goes into reading
    return true;
  }

  #read() {
    for (const node of this.#tailNodes) node.remove();
    const { whole, open } = splitEscape(this.#tail);
    const { done, rest } = divide(plain(whole));
    if (done !== "") this.el.append(render(done));
    const nodes = render(rest);
    this.#tailNodes = [...nodes.childNodes];
    this.el.append(nodes);
    this.#tail = rest + open;
  }
}

/** A terminal escape that has only begun is held back until the rest of it is there. */
function splitEscape(text) {
  const at = text.search(/(?:\u001b[^A-Za-z~\u001b]{0,200}|\r)$/);
  return at < 0 ? { whole: text, open: "" } : { whole: text.slice(0, at), open: text.slice(at) };
}

/** What is complete of a text that grows, and what may still change. */
function divide(text) {
  const tokens = marked.lexer(text);
  const last = tokens.findLastIndex((token) => token.type !== "space");
  if (last < 0) return { done: "", rest: text };
  const before = tokens.slice(0, last).reduce((sum, token) => sum + token.raw.length, 0);
  const at = before + insideOf(tokens[last]);
  return { done: text.slice(0, at), rest: text.slice(at) };
}

/** Where a block that became long can be divided without looking divided. */
function insideOf({ type, raw, items }) {
  if (raw.length < LONG_BLOCK) return 0;
  if (type === "paragraph" || type === "text") return raw.lastIndexOf("\n", raw.length - 2) + 1;
  if (type === "list") return raw.length - items.at(-1).raw.length;
  return 0;
}
