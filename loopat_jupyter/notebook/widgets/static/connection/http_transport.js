/**
 * The way to a loop straight from the page to the server that served it.
 *
 * It needs no kernel, so it works while the kernel is busy, restarted or dead. Both ways, this
 * one and `kernel.js`, are a `Port`: the same methods, the same `Refusal`s.
 *
 * @typedef {object} Port
 * @property {"server" | "kernel"} kind
 * @property {() => Promise<object>} loop  the Loop object, with runtime state
 * @property {(query: {limit: number, order?: string, after?: string}) => Promise<object>} messages
 * @property {(after: number | null, signal: AbortSignal) => AsyncGenerator<object[]>} events
 *   batches of events: after that sequence number, or from now with a snapshot
 * @property {(content: string, key: string, mode: string | null) => Promise<object>} send
 *   resolves with the first event of the turn's stream: the message is on the server's disk
 * @property {(choiceId: string, body: object) => Promise<void>} resolve
 * @property {(path: string, bytes: Blob, part: object | null, signal: AbortSignal) =>
 *   Promise<void>} put  a file of the workdir, whole or a part of it (`upload, offset, size`)
 * @property {() => Promise<void>} interrupt
 */
import { credentials } from "./server_config.js";
import { Refusal, refusalOf } from "./api_error.js";
import { linked } from "./abort_any.js";
import { eventsOf } from "./sse.js";

const EVENT_STREAM = "text/event-stream"; // exactly this: some proxies buffer other words
const SILENCE = 50_000; // ms without a byte, pings included: nobody is there

/** @implements {Port} */
export class DirectPort {
  kind = "server";

  /**
   * @param {import("./server_config.js").Address} address
   * @param {string} loopId
   * @param {Document} page
   */
  constructor(address, loopId, page) {
    this.address = address;
    this.page = page;
    this.base = `${address.api}loops/${encodeURIComponent(loopId)}`;
  }

  async loop() {
    return (await this.#fetch("GET", "")).json();
  }

  async messages(query) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    return (await this.#fetch("GET", `/messages?${search}`)).json();
  }

  async *events(after, signal) {
    const cursor = after === null ? {} : { "Last-Event-ID": String(after) };
    const headers = { Accept: EVENT_STREAM, ...cursor };
    const watch = new Watchdog(signal);
    try {
      const response = await this.#fetch("GET", "/events", { headers, signal: watch.signal });
      for await (const batch of eventsOf(streamOf(response))) {
        watch.heard();
        yield batch;
      }
    } catch (error) {
      if (signal.aborted || error instanceof Refusal) throw error;
      throw new Refusal("unreachable", "The connection to the server was lost.");
    } finally {
      watch.stop();
    }
  }

  async send(content, key, mode) {
    const stop = new AbortController();
    try {
      const response = await this.#fetch("POST", "/messages", {
        body: mode ? { content, permission_mode: mode } : { content },
        headers: { Accept: EVENT_STREAM, "Idempotency-Key": key },
        signal: stop.signal,
      });
      for await (const batch of eventsOf(streamOf(response))) {
        if (batch.length > 0) return batch[0];
      }
      throw new Refusal("unreachable", "The connection broke before the server answered.");
    } finally {
      stop.abort(); // the turn goes on; its events come with the loop's
    }
  }

  async resolve(choiceId, body) {
    await this.#fetch("POST", `/choices/${encodeURIComponent(choiceId)}`, { body });
  }

  async put(path, bytes, part, signal) {
    const search = part === null ? "" : `?${new URLSearchParams(part)}`;
    const name = path.split("/").map(encodeURIComponent).join("/");
    const headers = { "Content-Type": "application/octet-stream" };
    await this.#fetch("PUT", `/files/${name}${search}`, { bytes, headers, signal });
  }

  async interrupt() {
    await this.#fetch("POST", "/interrupt");
  }

  /** A response that is a success; everything else is a `Refusal` (or the abort's own error). */
  async #fetch(method, path, { body, bytes, headers = {}, signal } = {}) {
    const options = {
      method,
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error", // to a login page: no answer of ours
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...credentials(this.address, this.page),
        ...headers,
      },
      body: body === undefined ? bytes : JSON.stringify(body),
    };
    let response;
    try {
      response = await fetch(`${this.base}${path}`, options);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refusal("unreachable", "The server does not answer.");
    }
    if (!response.ok) throw await refusalOf(response);
    return response;
  }
}

function streamOf(response) {
  const kind = (response.headers.get("Content-Type") ?? "").split(";")[0].trim();
  if (kind === EVENT_STREAM && response.body !== null) return response.body;
  throw new Refusal("not_here", "Something answered that is no stream of events.");
}

/** Aborts when `signal` does, and after too long a silence. */
class Watchdog {
  #link;
  #timer;

  constructor(signal) {
    this.#link = linked(signal);
    this.signal = this.#link.signal;
    this.heard();
  }

  heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#link.abort, SILENCE);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#link.unlink();
  }
}
