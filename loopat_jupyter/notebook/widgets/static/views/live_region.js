/**
 * The ARIA live region: announces to screen readers that a turn began or ended and that a choice is
 * pending. Deltas are not announced: the transcript is a log that is read on demand.
 */
import { h } from "../dom/elements.js";
import { oneLine } from "../dom/text_sanitizer.js";
import { isOpen, pendingChoice, visibleText } from "../state/transcript.js";

export class LiveRegion {
  #announced = new Map();

  constructor() {
    const live = { class: "loopat-aside", "aria-live": "polite", "aria-atomic": "true" };
    this.el = h("div", { ...live, role: "status", data: { loopatAnnouncer: "" } });
  }

  /** @param {import("../state/transcript.js").Turn} turn one that changed while connected */
  announce(turn) {
    const choice = pendingChoice(turn);
    const state = choice ? `choice:${choice.request.choice_id}` : isOpen(turn) ? "open" : "over";
    if (this.#announced.get(turn.id) === state) return;
    const wasOpen = this.#announced.has(turn.id);
    this.#announced.set(turn.id, state);
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
