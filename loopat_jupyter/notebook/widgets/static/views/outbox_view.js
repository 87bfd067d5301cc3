/**
 * Messages whose turn has not begun: being sent, queued behind a running turn, or refused.
 */
import { h, setText } from "../dom/elements.js";
import { userMessage } from "./turn_view.js";

export class OutboxView {
  #session;
  #restoreText;
  #rows = new Map();

  /**
   * @param {import("../state/session.js").Session} session
   * @param {(text: string) => void} restoreText puts a text back into the composer
   */
  constructor(session, restoreText) {
    this.#session = session;
    this.#restoreText = restoreText;
    this.el = h("div", {
      class: "loopat-outbox",
      role: "group",
      "aria-label": "Messages on their way",
    });
  }

  get isEmpty() {
    return this.#rows.size === 0;
  }

  update() {
    const wanted = this.#rowsToShow();
    for (const [key, row] of this.#rows) {
      if (!wanted.has(key)) {
        row.el.remove();
        this.#rows.delete(key);
      }
    }
    for (const [index, [key, { content, state, note, message }]] of [...wanted].entries()) {
      if (!this.#rows.has(key)) this.#rows.set(key, this.#makeRow(content, message));
      const row = this.#rows.get(key);
      row.el.dataset.state = state;
      setText(row.note, note);
      row.actions.hidden = state !== "failed";
      // Move it only where the order changed: a node that moves loses the focus.
      const there = this.el.children[index] ?? null;
      if (there !== row.el) this.el.insertBefore(row.el, there);
    }
    this.el.hidden = wanted.size === 0;
  }

  #rowsToShow() {
    const wanted = new Map();
    this.#session.queue.forEach(({ turn_id: id, content }, index) => {
      const note = index === 0 ? "Queued: next" : `Queued: number ${index + 1}`;
      wanted.set(id, { content, state: "queued", note });
    });
    for (const message of this.#session.outbox.messages) {
      if (wanted.has(message.turnId)) continue;
      const note = message.state === "failed" ? `Not sent: ${message.error}` : "Sending…";
      wanted.set(message.key, { content: message.content, state: message.state, note, message });
    }
    return wanted;
  }

  #makeRow(content, message) {
    const note = h("p", { class: "loopat-note" });
    const retry = h("button", { type: "button", class: "loopat-button" }, "Send again");
    retry.addEventListener("click", () => this.#session.outbox.retry(message));
    const edit = h("button", { type: "button", class: "loopat-button" }, "Back to the field");
    edit.addEventListener("click", () => {
      this.#session.outbox.remove(message);
      this.#restoreText(message.content);
    });
    const actions = h("div", { class: "loopat-actions", hidden: true }, retry, edit);
    return {
      el: h("div", { class: "loopat-waiting" }, userMessage(content), note, actions),
      note,
      actions,
    };
  }
}
