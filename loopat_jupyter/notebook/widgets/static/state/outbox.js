/**
 * Messages on their way: from the composer until the server has them on disk.
 *
 * Each has an idempotency key of its own, so sending it again never runs it twice. One that the
 * server refuses stays here with the reason, until its writer takes it back: nothing is lost.
 */
import { Backoff, pause } from "../connection/backoff.js";
import { Refusal } from "../connection/api_error.js";
import { utf8Length } from "../dom/text_sanitizer.js";

const LIMIT = 1 << 20; // bytes of UTF-8 in a message
const ATTEMPTS = 8;

/**
 * @typedef {object} Sent
 * @property {string} key
 * @property {string} content
 * @property {string | null} mode
 * @property {"sending" | "accepted" | "failed"} state
 * @property {string} error
 * @property {string | null} turnId once known
 */

export class Outbox {
  /** @type {Sent[]} */
  messages = [];
  #session;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Why `content` cannot be sent, or "" when it can.
   * @param {string} content
   */
  static objection(content) {
    if (content.trim() === "") return "There is nothing to send yet.";
    if (content.includes("\0")) {
      return "This looks like binary data: it holds NUL characters. Put it into a file instead.";
    }
    const size = utf8Length(content);
    if (size <= LIMIT) return "";
    const mib = (size / LIMIT).toFixed(1);
    return `This is ${mib} MiB; a message has at most 1 MiB. Put it into a file, or shorten it.`;
  }

  /** @param {string} content @param {string | null} mode */
  send(content, mode) {
    const message = { key: newKey(), content, mode, state: "sending", error: "", turnId: null };
    this.messages.push(message);
    this.#session.touch();
    this.#deliver(message);
  }

  /** Send a failed one again, with the same key. @param {Sent} message */
  again(message) {
    Object.assign(message, { state: "sending", error: "" });
    this.#session.touch();
    this.#deliver(message);
  }

  /** @param {Sent} message */
  remove(message) {
    this.messages = this.messages.filter((one) => one !== message);
    this.#session.touch();
  }

  /** The turn has begun, or will not: it is told elsewhere now. @param {string} turnId */
  forget(turnId) {
    this.messages = this.messages.filter((one) => one.turnId !== turnId);
  }

  async #deliver(message) {
    const backoff = new Backoff();
    const nobody = new AbortController().signal;
    for (;;) {
      try {
        const first = await this.#session.port.send(message.content, message.key, message.mode);
        await this.#accepted(message, first);
        return;
      } catch (error) {
        const lasting = !(error instanceof Refusal) || !error.passing;
        if (lasting || backoff.failures >= ATTEMPTS || this.#session.link === "stopped") {
          this.#refuse(message, error);
          return;
        }
        await pause(backoff.next(error.retryAfter), nobody);
      }
    }
  }

  async #accepted(message, first) {
    message.state = "accepted";
    message.turnId = first.data.turn_id ?? null;
    const turns = this.#session.transcript.turns;
    if (message.turnId === null) {
      await this.#session.refresh().catch(() => this.#session.refreshSoon());
      this.remove(message); // it is in the queue now, or has begun
    } else if (turns.has(message.turnId)) {
      this.remove(message);
    }
    this.#session.touch();
  }

  #refuse(message, error) {
    if (!(error instanceof Refusal)) console.error("loopat:", error);
    message.state = "failed";
    message.error = error.message;
    this.#session.touch();
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
