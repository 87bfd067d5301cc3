/**
 * A connection to one loop that stays: it finds the way, follows the loop's events, and comes
 * back by itself after whatever broke. What is done with the events is its subclass's business.
 */
import { Backoff, pause } from "./backoff.js";
import { findPort } from "./find_transport.js";
import { Refusal } from "./api_error.js";
import { Sight } from "./page_visibility.js";
import { linked } from "./abort_any.js";
import { slotsOfPage } from "./stream_limit.js";

const LOST = "The connection to the server was lost.";

/**
 * @typedef {"connecting" | "live" | "reconnecting" | "failed" | "stopped"} State
 */
export class Link extends EventTarget {
  /** @type {State} */
  link = "connecting";
  /** A sentence about the link, where there is something to say. */
  linkMessage = "";
  /** The Loop object, as the server last described it. */
  loop = null;

  #port = null;
  #life = null;
  #sight;
  #backoff = new Backoff();

  /**
   * @param {object} model the widget's model, with the trait `loop_id`
   * @param {Document} page
   */
  constructor(model, page) {
    super();
    this.model = model;
    this.page = page;
    this.#sight = new Sight(page);
  }

  // ------------------------------------------------------------------ of the subclass

  /** There is a connection, the first or a new one: learn what is needed before the events. */
  async connected() {}

  /** The sequence number after which events are wanted; null: from now, with a snapshot. */
  get cursor() {
    return null;
  }

  /** @param {import("./sse.js").LoopEvent[]} _batch in order */
  take(_batch) {}

  /** The server knows nothing of the cursor: begin anew. */
  forget() {}

  // ------------------------------------------------------------------ of everybody

  get loopId() {
    return this.model.get("loop_id");
  }

  /** @returns {import("./http_transport.js").Port} @throws {Refusal} before there is one */
  get port() {
    if (this.#port === null) throw new Refusal("unreachable", "There is no connection yet.");
    return this.#port;
  }

  get viaKernel() {
    return this.#port?.kind === "kernel";
  }

  /** Connect, and stay connected until `stop`. Nothing where that is so already. */
  start() {
    if (this.#life !== null && this.link !== "failed") return;
    this.#leave();
    this.#life = new AbortController();
    this.setLink("connecting");
    this.#run(this.#life.signal);
  }

  /** Leave. The loop's turns go on in the server. */
  stop() {
    this.#leave();
    this.setLink("stopped");
  }

  /** Tell the views that something is to be looked at. */
  touch() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {State} link @param {string} [message] */
  setLink(link, message = "") {
    this.link = link;
    this.linkMessage = message;
    this.touch();
  }

  #leave() {
    this.#life?.abort();
    this.#life = null;
    this.#port?.close?.();
    this.#port = null;
  }

  async #run(signal) {
    while (!signal.aborted) {
      try {
        await this.#connect(signal);
        while (await this.#follow(signal));
        throw new Refusal("unreachable", LOST); // a server that stops closes its streams
      } catch (error) {
        if (signal.aborted || !(await this.#carryOn(error, signal))) return;
      }
    }
  }

  async #connect(signal) {
    if (this.#port === null) {
      const found = await findPort(this.model, this.loopId, this.page);
      if (signal.aborted) {
        found.port.close?.();
        return;
      }
      this.#port = found.port;
      this.loop = found.loop;
    }
    await this.connected();
  }

  /** Follow the events until the stream ends; true: it ended because it gave its place up. */
  async #follow(signal) {
    await this.#sight.seen(signal);
    const lease = this.viaKernel ? NO_LEASE : await slotsOfPage().take(signal);
    if (lease === null) return false;
    const watching = linked(signal, lease.signal);
    const unsee = this.#sight.whenLost(watching.abort);
    try {
      if (this.link !== "live") this.setLink("live");
      for await (const batch of this.port.events(this.cursor, watching.signal)) {
        this.#backoff.reset();
        if (watching.signal.aborted) break;
        if (batch.length > 0) {
          this.take(batch);
          this.touch();
        }
      }
      return watching.signal.aborted && !signal.aborted;
    } catch (error) {
      if (watching.signal.aborted && !signal.aborted) return true;
      throw error;
    } finally {
      unsee();
      watching.unlink();
      lease.free();
    }
  }

  /** Whether to try again after `error`, having waited. */
  async #carryOn(error, signal) {
    if (!(error instanceof Refusal)) console.error("loopat:", error);
    if (error.code === "invalid_cursor") {
      this.forget();
      return true;
    }
    if (!error.passing) {
      this.setLink("failed", sentence(error));
      return false;
    }
    this.setLink(this.loop === null ? "connecting" : "reconnecting", error.message);
    await pause(this.#backoff.next(error.retryAfter), signal);
    return true;
  }
}

const NO_LEASE = { signal: new AbortController().signal, free: () => undefined };

/** What to tell a person about a refusal that does not pass. @param {Error} error */
export function sentence(error) {
  const known = {
    missing_credentials: "The server asks you to log in again. Reload this page.",
    invalid_token: "The kernel's API token is unknown or was revoked. Set a new LOOPAT_TOKEN.",
    xsrf_failed: "The server asks you to log in again. Reload this page.",
    not_loop_owner: "This loop belongs to somebody else; ask them, or make one of your own.",
  };
  if (error instanceof Refusal) return known[error.code] ?? error.message;
  return "Something went wrong in this widget; the loop itself is unharmed. Try again.";
}
