/**
 * An agent's Markdown as sanitized DOM nodes, also while the text is still growing.
 *
 * `marked` parses it, with raw HTML escaped to text; `DOMPurify` makes nodes of the result under a
 * narrow allowlist. Images become links, because loading one could send data to its host. Links go
 * to http, https and mailto, open in a new tab and send no referrer.
 *
 * A growing text is rendered block by block: complete blocks are rendered once; only the last one
 * is rendered again, at most once a frame, and less often when it is large.
 */
import { h } from "../dom/elements.js";
import { markOverrides } from "./tool_input_view.js";
import { escapeHtml, splitIncompleteEscape, stripControls } from "../dom/text_sanitizer.js";
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
  ADD_URI_SAFE_ATTR: ["align", "start"], // their values are no addresses: no check of the scheme
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};


const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text, block }) => (block ? `<p>${escapeHtml(text.trimEnd())}</p>` : escapeHtml(text)),
    image({ href, text }) {
      const label = escapeHtml(`image: ${text || href}`);
      return LINK.test(href) ? `<a href="${escapeHtml(href)}">${label}</a>` : label;
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
    pre.replaceWith(codeBlock(pre.textContent.replace(/\n$/, ""), language));
  }
  for (const link of nodes.querySelectorAll("a")) openElsewhere(link);
  for (const table of nodes.querySelectorAll("table")) wrapTable(table);
  for (const box of nodes.querySelectorAll("input")) replaceCheckbox(box);
  for (const block of nodes.children) block.setAttribute("dir", "auto");
  markOverrides(nodes);
  return nodes;
}

function languageOf(pre) {
  return /language-([\w+#.-]{1,30})/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "";
}

/** Put a table into an element of its own that scrolls. */
function wrapTable(table) {
  const around = { class: "loopat-table", tabIndex: 0, role: "group", "aria-label": "Table" };
  const element = h("div", around);
  table.replaceWith(element);
  element.append(table);
}

/** The allowlist's only inputs are the check boxes of task lists: show them as characters. */
function replaceCheckbox(box) {
  box.replaceWith(box.checked ? "☑" : "☐");
}

function openElsewhere(link) {
  if (!LINK.test(link.getAttribute("href") ?? "")) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = link.href; // its text may name another address
}

/**
 * A block of code with a button that copies it.
 * @param {string} text
 * @param {string} [label] such as the language
 * @returns {HTMLElement}
 */
export function codeBlock(text, label = "") {
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
  let label = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    label = "Select it and press Ctrl+C"; // no permission, or no secure page
  }
  button.textContent = label;
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

/** The length in characters from which the unfinished block is divided. */
const LONG_BLOCK = 16_000;

/** Renders a text that grows. */
export class MarkdownView {
  #shown = 0; // characters of the text that have been taken over
  #tail = "";
  #tailNodes = [];
  #nextRenderAt = 0; // ms, by performance.now()
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
    if (begun < this.#nextRenderAt && !final) return false;
    this.#tail += text.slice(this.#shown);
    this.#shown = text.length;
    this.#render();
    const took = performance.now() - begun;
    this.#nextRenderAt = begun + took * 12; // rendering takes at most a twelfth of the time
    return true;
  }

  #render() {
    for (const node of this.#tailNodes) node.remove();
    const { whole, open } = splitIncompleteEscape(this.#tail);
    const { done, rest } = splitComplete(stripControls(whole));
    if (done !== "") this.el.append(render(done));
    const nodes = render(rest);
    this.#tailNodes = [...nodes.childNodes];
    this.el.append(nodes);
    this.#tail = rest + open;
  }
}


/** A growing text as its complete blocks and the rest, which may still change. */
function splitComplete(text) {
  const tokens = marked.lexer(text);
  const last = tokens.findLastIndex((token) => token.type !== "space");
  if (last < 0) return { done: "", rest: text };
  const before = tokens.slice(0, last).reduce((sum, token) => sum + token.raw.length, 0);
  const at = before + splitPoint(tokens[last]);
  return { done: text.slice(0, at), rest: text.slice(at) };
}

/** The offset at which a long block can be divided without a visible change. */
function splitPoint({ type, raw, items }) {
  if (raw.length < LONG_BLOCK) return 0;
  if (type === "paragraph" || type === "text") return raw.lastIndexOf("\n", raw.length - 2) + 1;
  if (type === "list") return raw.length - items.at(-1).raw.length;
  return 0;
}
