/**
 * A connection to one loop that reconnects by itself: it finds a transport and reads the loop's
 * events. Subclasses handle the events.
 */
import { Backoff, pause } from "./backoff.js";
import { findTransport } from "./find_transport.js";
import { ApiError } from "./api_error.js";
import { PageVisibility } from "./page_visibility.js";
import { abortAny } from "./abort_any.js";
import { streamLimitOfPage } from "./stream_limit.js";

const LOST = "The connection to the server was lost.";

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "failed" | "stopped"} State
 */
export class LoopConnection extends EventTarget {
  /** @type {State} */
  connectionState = "connecting";
  /** A sentence about the state of the connection, or empty. */
  connectionMessage = "";
  /** The Loop object, as the server last described it. */
  loop = null;

  #transport = null;
  #lifetime = null;
  #visibility;
  #backoff = new Backoff();

  /**
   * @param {object} model the widget's model, with the trait `loop_id`
   * @param {Document} page
   */
  constructor(model, page) {
    super();
    this.model = model;
    this.page = page;
    this.#visibility = new PageVisibility(page);
  }

  // ------------------------------------------------------------------ for subclasses

  /** Called after each connect and reconnect, before events are read: load what is needed. */
  async onConnected() {}

  /** The sequence number after which events are wanted; null: from now, with a snapshot. */
  get cursor() {
    return null;
  }

  /** @param {import("./sse.js").LoopEvent[]} _batch in order */
  onEvents(_batch) {}

  /** The server does not know the cursor: discard all state. */
  resetState() {}

  // ------------------------------------------------------------------ for views

  get loopId() {
    return this.model.get("loop_id");
  }

  /**
   * @returns {import("./http_transport.js").LoopTransport}
   * @throws {ApiError} there is no connection yet
   */
  get transport() {
    if (this.#transport === null) throw new ApiError("unreachable", "There is no connection yet.");
    return this.#transport;
  }

  get viaKernel() {
    return this.#transport?.kind === "kernel";
  }

  /** Connect, and stay connected until `stop`. Does nothing when connected already. */
  start() {
    if (this.#lifetime !== null && this.connectionState !== "failed") return;
    this.#disconnect();
    this.#lifetime = new AbortController();
    this.setConnectionState("connecting");
    this.#keepConnected(this.#lifetime.signal);
  }

  /** Disconnect. The loop's turns continue in the server. */
  stop() {
    this.#disconnect();
    this.setConnectionState("stopped");
  }

  /** Dispatch the event `change` to the views. */
  notify() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {State} connectionState @param {string} [message] */
  setConnectionState(connectionState, message = "") {
    this.connectionState = connectionState;
    this.connectionMessage = message;
    this.notify();
  }

  #disconnect() {
    this.#lifetime?.abort();
    this.#lifetime = null;
    this.#transport?.close?.();
    this.#transport = null;
  }

  async #keepConnected(signal) {
    while (!signal.aborted) {
      try {
        await this.#connect(signal);
        while (await this.#readEvents(signal));
        throw new ApiError("unreachable", LOST); // a server that stops closes its streams
      } catch (error) {
        if (signal.aborted || !(await this.#handleError(error, signal))) return;
      }
    }
  }

  async #connect(signal) {
    if (this.#transport === null) {
      const found = await findTransport(this.model, this.loopId, this.page);
      if (signal.aborted) {
        found.transport.close?.();
        return;
      }
      this.#transport = found.transport;
      this.loop = found.loop;
    }
    await this.onConnected();
  }

  /** Read events until the stream ends; true where it ended for another stream or a hidden page. */
  async #readEvents(signal) {
    await this.#visibility.whenVisible(signal);
    const lease = this.viaKernel ? UNLIMITED_LEASE : await streamLimitOfPage().acquire(signal);
    if (lease === null) return false;
    const watching = abortAny(signal, lease.signal);
    const stopWatching = this.#visibility.onHiddenTooLong(watching.abort);
    try {
      if (this.connectionState !== "live") this.setConnectionState("live");
      for await (const batch of this.transport.events(this.cursor, watching.signal)) {
        this.#backoff.reset();
        if (watching.signal.aborted) break;
        if (batch.length > 0) {
          this.onEvents(batch);
          this.notify();
        }
      }
      return watching.signal.aborted && !signal.aborted;
    } catch (error) {
      if (watching.signal.aborted && !signal.aborted) return true;
      throw error;
    } finally {
      stopWatching();
      watching.dispose();
      lease.release();
    }
  }

  /** Wait before a reconnect after `error`; false where there is none. */
  async #handleError(error, signal) {
    if (!(error instanceof ApiError)) console.error("loopat:", error);
    if (error.code === "invalid_cursor") {
      this.resetState();
      return true;
    }
    if (!error.retryable) {
      this.setConnectionState("failed", errorSentence(error));
      return false;
    }
    this.setConnectionState(this.loop === null ? "connecting" : "reconnecting", error.message);
    await pause(this.#backoff.next(error.retryAfter), signal);
    return true;
  }
}

const UNLIMITED_LEASE = { signal: new AbortController().signal, release: () => undefined };

/** The sentence for a person about an error that is not retried. @param {Error} error */
export function errorSentence(error) {
  const known = {
    missing_credentials: "The server asks you to log in again. Reload this page.",
    invalid_token: "The kernel's API token is unknown or was revoked. Set a new LOOPAT_TOKEN.",
    xsrf_failed: "The server asks you to log in again. Reload this page.",
    not_loop_owner: "This loop belongs to somebody else; ask them, or make one of your own.",
  };
  if (error instanceof ApiError) return known[error.code] ?? error.message;
  return "Something went wrong in this widget; the loop itself is unharmed. Try again.";
}
