/**
 * What a ChoicePrompt knows of its one choice: what is asked, and what became of it.
 *
 * With the number of the choice's event (`seq`) it reads the events from there. Without one it
 * learns from the snapshot whether the choice is still pending; one that is not was decided
 * before, and the events that told how are past.
 */
import { Link } from "../connection/loop_connection.js";
import { Refusal } from "../connection/api_error.js";

export class PromptSession extends Link {
  /** `requires_choice`'s data, once known. */
  request = null;
  /** `choice_resolved`'s data, once it is. */
  resolved = null;
  #cursor;

  constructor(model, page) {
    super(model, page);
    const seq = model.get("seq");
    this.#cursor = seq > 0 ? seq - 1 : null;
  }

  get cursor() {
    return this.#cursor;
  }

  get choiceId() {
    return this.model.get("choice_id");
  }

  /** What there is to say besides the choice itself. */
  get message() {
    if (this.resolved !== null) return "";
    if (this.linkMessage) return this.linkMessage;
    return this.request === null ? "Looking for what is asked…" : "";
  }

  async connected() {
    const loop = await this.port.loop();
    this.loop = loop;
    const pending = loop.current_turn?.pending_choice_id === this.choiceId;
    if (this.#cursor !== null || pending) return;
    throw new Refusal("choice_not_found", "This choice is not pending any more.");
  }

  take(batch) {
    for (const { name, data, seq } of batch) {
      if (seq !== null) this.#cursor = seq;
      const choice = name === "snapshot" ? data.choice : data;
      const asks = name === "requires_choice" || name === "snapshot";
      if (choice?.choice_id !== this.choiceId) continue;
      if (asks) this.request = choice;
      else if (name === "choice_resolved") this.#settle(data);
    }
  }

  /** @param {string} choiceId @param {object} body the contract's @throws {Refusal} */
  async resolve(choiceId, body) {
    await this.port.resolve(choiceId, body);
  }

  #settle(data) {
    this.resolved = data;
    this.stop(); // nothing more will come
  }
}
