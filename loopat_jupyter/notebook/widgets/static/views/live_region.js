/**
 * What a screen reader is told: that an answer began and ended, and that somebody is asked.
 * Never the deltas: the transcript itself is a log that is read on demand.
 */
import { h } from "../dom/elements.js";
import { oneLine } from "../dom/text_sanitizer.js";
import { isOpen, pendingChoice, visibleText } from "../state/transcript.js";

export class Announcer {
  #said = new Map();

  constructor() {
    const live = { class: "loopat-aside", "aria-live": "polite", "aria-atomic": "true" };
    this.el = h("div", { ...live, role: "status", data: { loopatAnnouncer: "" } });
  }

  /** @param {import("../state/transcript.js").Turn} turn one that happens while somebody watches */
  follow(turn) {
    const choice = pendingChoice(turn);
    const state = choice ? `choice:${choice.request.choice_id}` : isOpen(turn) ? "open" : "over";
    if (this.#said.get(turn.id) === state) return;
    const wasOpen = this.#said.has(turn.id);
    this.#said.set(turn.id, state);
    const text = choice
      ? asked(choice.request)
      : state === "over"
        ? ended(turn)
        : wasOpen
          ? ""
          : "Working.";
    if (text) this.el.textContent = text;
  }
}

function asked({ kind, payload }) {
  if (kind === "permission") return `Permission needed: ${oneLine(payload.title || payload.tool)}`;
  return `The agent asks: ${oneLine(payload.questions[0]?.question ?? "")}`;
}

function ended(turn) {
  if (turn.state === "interrupted") return "The turn was stopped.";
  if (turn.state === "error") return `The turn failed: ${oneLine(turn.error?.message ?? "")}`;
  return `The answer is complete: ${oneLine(visibleText(turn).slice(0, 2000), 300)}`;
}
