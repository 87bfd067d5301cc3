/**
 * Messages being sent: from the composer until the server has them on disk.
 *
 * Each has its own idempotency key, so that a retry never runs it twice. A message that the server
 * refuses stays here with the reason, until the user edits or removes it.
 */
import { Backoff, pause } from "../connection/backoff.js";
import { ApiError } from "../connection/api_error.js";
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
  static validate(content) {
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
    this.#session.notify();
    this.#deliver(message);
  }

  /** Send a failed message again, with the same key. @param {Sent} message */
  retry(message) {
    Object.assign(message, { state: "sending", error: "" });
    this.#session.notify();
    this.#deliver(message);
  }

  /** @param {Sent} message */
  remove(message) {
    this.messages = this.messages.filter((one) => one !== message);
    this.#session.notify();
  }

  /** Remove the message of a turn that is in the transcript now. @param {string} turnId */
  removeTurn(turnId) {
    this.messages = this.messages.filter((one) => one.turnId !== turnId);
  }

  async #deliver(message) {
    const backoff = new Backoff();
    const neverAborted = new AbortController().signal;
    for (;;) {
      try {
        const { content, key, mode } = message;
        const first = await this.#session.transport.send(content, key, mode);
        await this.#accepted(message, first);
        return;
      } catch (error) {
        const isPermanent = !(error instanceof ApiError) || !error.retryable;
        const isStopped = this.#session.connectionState === "stopped";
        if (isPermanent || isStopped || backoff.failures >= ATTEMPTS) {
          this.#refuse(message, error);
          return;
        }
        await pause(backoff.next(error.retryAfter), neverAborted);
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
    this.#session.notify();
  }

  #refuse(message, error) {
    if (!(error instanceof ApiError)) console.error("loopat:", error);
    message.state = "failed";
    message.error = error.message;
    this.#session.notify();
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
