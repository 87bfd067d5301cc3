/**
 * The state of a ChoicePrompt: its one choice, and how it was resolved.
 *
 * With the number of the choice's event (`seq`) it reads the events from there. Without one it
 * reads from the snapshot whether the choice is still pending; if it is not, the event with its
 * resolution cannot be found any more.
 */
import { LoopConnection } from "../connection/loop_connection.js";
import { ApiError } from "../connection/api_error.js";

export class PromptSession extends LoopConnection {
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

  /** The sentence to show beside the choice. */
  get message() {
    if (this.resolved !== null) return "";
    if (this.connectionMessage) return this.connectionMessage;
    return this.request === null ? "Looking for what is asked…" : "";
  }

  async onConnected() {
    const loop = await this.transport.loop();
    this.loop = loop;
    const pending = loop.current_turn?.pending_choice_id === this.choiceId;
    if (this.#cursor !== null || pending) return;
    throw new ApiError("choice_not_found", "This choice is not pending any more.");
  }

  onEvents(batch) {
    for (const { name, data, seq } of batch) {
      if (seq !== null) this.#cursor = seq;
      const choice = name === "snapshot" ? data.choice : data;
      const asks = name === "requires_choice" || name === "snapshot";
      if (choice?.choice_id !== this.choiceId) continue;
      if (asks) this.request = choice;
      else if (name === "choice_resolved") this.#onResolved(data);
    }
  }

  /** @param {string} choiceId @param {object} body the contract's @throws {ApiError} */
  async resolve(choiceId, body) {
    await this.transport.resolve(choiceId, body);
  }

  #onResolved(data) {
    this.resolved = data;
    this.stop(); // nothing more will come
  }
}
