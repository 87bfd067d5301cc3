/**
 * One turn of the transcript: the user's message, then the agent's thinking, text, tool calls and
 * choices.
 *
 * Parts are only appended, so each gets a view once, which is then updated. Of a turn with very
 * many parts only the newest are in the page; a button shows the others.
 */
import { ChoiceView } from "./choice_view.js";
import { h, setText } from "../dom/elements.js";
import { withOverrideMarks } from "./tool_input_view.js";
import { MarkdownView } from "./markdown.js";
import { stripControls } from "../dom/text_sanitizer.js";
import { ToolView } from "./tool_view.js";
import { isOpen } from "../state/transcript.js";

const MAX_PARTS = 200;
const LONG_MESSAGE = 4_000; // characters of the user's own text that are shown at once

export class TurnView {
  #turn;
  #session;
  #focusNext;
  #views = [];
  #first = 0;
  #parts;
  #user = null;
  #end;
  #more;

  /**
   * @param {import("../state/transcript.js").Turn} turn
   * @param {import("../state/session.js").Session} session
   * @param {() => void} focusNext moves the focus after a choice was resolved
   */
  constructor(turn, session, focusNext) {
    this.#turn = turn;
    this.#session = session;
    this.#focusNext = focusNext;
    this.#parts = h("div", { class: "loopat-parts" });
    this.#end = h("p", { class: "loopat-end" });
    this.#more = h("button", {
      type: "button",
      class: "loopat-button loopat-earlier-parts",
      hidden: true,
    });
    this.#more.addEventListener("click", () => this.#showAll());
    this.el = h("article", {
      class: "loopat-turn",
      "aria-label": "Turn",
      data: { loopatTurn: turn.id },
    });
    this.el.append(this.#more, this.#parts, this.#end);
  }

  /** Show what is new. @returns {boolean} whether it is to be called again soon */
  update() {
    const turn = this.#turn;
    this.el.dataset.state = turn.state;
    if (this.#user === null && turn.content !== null) this.#showUser(turn.content);
    for (let index = this.#first + this.#views.length; index < turn.parts.length; index += 1) {
      this.#add(turn.parts[index]);
    }
    this.#trim();
    this.#showEnd();
    return this.#updateViews();
  }

  #showUser(content) {
    this.#user = userMessage(content);
    this.el.prepend(this.#user);
  }

  #add(part) {
    const view = this.#viewOf(part);
    this.#views.push(view);
    this.#parts.append(view.el);
  }

  #viewOf(part) {
    if (part.kind === "text") return new TextView(part);
    if (part.kind === "thinking") return new ThinkingView(part);
    if (part.kind === "tool") {
      return new ToolView(part, () => this.#session.loadToolCall(this.#turn, part.id));
    }
    const resolve = (id, body) => this.#session.resolve(id, body);
    return new ChoicePartView(part, new ChoiceView(part.request, resolve, this.#focusNext));
  }

  #updateViews() {
    const open = isOpen(this.#turn);
    const waits = waitingCall(this.#turn);
    const newest = this.#views.length - 1;
    let unfinished = false;
    this.#views.forEach((view, index) => {
      const growing = open && index === newest;
      if (view.update({ open, waits, growing }) === true) unfinished = true;
    });
    return unfinished;
  }

  #trim() {
    if (this.#views.length <= MAX_PARTS * 1.5) return;
    const gone = this.#views.splice(0, this.#views.length - MAX_PARTS);
    for (const view of gone) view.el.remove();
    this.#first += gone.length;
    this.#more.hidden = false;
    setText(this.#more, `Show ${this.#first} earlier steps of this turn`);
  }

  #showAll() {
    this.#more.hidden = true;
    const views = this.#turn.parts.slice(0, this.#first).map((part) => this.#viewOf(part));
    this.#parts.prepend(...views.map((view) => view.el));
    this.#views.unshift(...views);
    this.#first = 0;
    this.#updateViews();
  }

  #showEnd() {
    const { state, error } = this.#turn;
    if (state === "interrupted") setText(this.#end, "Stopped.");
    else if (state === "error") setText(this.#end, errorText(error));
    this.#end.hidden = !["interrupted", "error"].includes(state);
  }
}

/** The user's message, as plain text and not as Markdown. @param {string} content */
export function userMessage(content) {
  const text = stripControls(content);
  const element = h("div", { class: "loopat-user", dir: "auto", data: { loopatRole: "user" } });
  const author = h("span", { class: "loopat-aside" }, "You: ");
  element.append(author, ...withOverrideMarks(text.slice(0, LONG_MESSAGE)));
  if (text.length > LONG_MESSAGE) {
    const rest = h("button", { type: "button", class: "loopat-button" });
    rest.textContent = `… show all ${text.length.toLocaleString()} characters`;
    rest.addEventListener("click", () =>
      rest.replaceWith(...withOverrideMarks(text.slice(LONG_MESSAGE))),
    );
    element.append(rest);
  }
  return element;
}

/** The tool call that the pending choice is about: the last one before it. */
function waitingCall(turn) {
  const asked = turn.parts.findLastIndex(
    (part) => part.kind === "choice" && part.resolved === null,
  );
  return turn.parts.slice(0, Math.max(0, asked)).findLast((part) => part.kind === "tool") ?? null;
}

function errorText({ code, message }) {
  const known = {
    server_restarted: "The server was restarted while this turn ran.",
    sandbox_evicted: "The sandbox was stopped while this turn waited.",
  };
  const detail = stripControls(message ?? "");
  return `This turn failed: ${known[code] && !detail ? known[code] : detail || code}`;
}

class TextView {
  #part;
  #markdown = new MarkdownView();

  constructor(part) {
    this.#part = part;
    this.el = this.#markdown.el;
    this.el.dataset.loopatRole = "assistant";
  }

  update({ growing }) {
    return !this.#markdown.update(this.#part.text, !growing);
  }
}

/** Thinking, in a closed `details`; rendered only while it is open. */
class ThinkingView {
  #part;
  #markdown = new MarkdownView();
  #label;
  #growing = false;

  constructor(part) {
    this.#part = part;
    this.#label = h("span", null, "Thought");
    this.el = h("details", { class: "loopat-thinking" }, h("summary", null, this.#label));
    this.el.append(this.#markdown.el);
    this.el.addEventListener("toggle", () => this.update({ growing: this.#growing }));
  }

  update({ growing }) {
    this.#growing = growing;
    setText(this.#label, growing ? "Thinking…" : "Thought");
    if (!this.el.open) return false;
    return !this.#markdown.update(this.#part.text, !growing);
  }
}

class ChoicePartView {
  #part;
  #view;

  constructor(part, view) {
    this.#part = part;
    this.#view = view;
    this.el = view.el;
  }

  update() {
    if (this.#part.resolved !== null) this.#view.showResolution(this.#part.resolved);
  }
}
