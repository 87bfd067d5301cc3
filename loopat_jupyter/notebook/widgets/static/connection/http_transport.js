/**
 * Requests of the Loop API by HTTP, from the page to the server that served it.
 *
 * It needs no kernel, so it works while the kernel is busy, restarted or dead. This transport and
 * `KernelTransport` have the same methods and throw the same `ApiError`s.
 *
 * @typedef {object} LoopTransport
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
import { authHeaders } from "./server_config.js";
import { ApiError, errorFromResponse } from "./api_error.js";
import { abortAny } from "./abort_any.js";
import { eventsOf } from "./sse.js";

const EVENT_STREAM = "text/event-stream"; // exactly this: some proxies buffer other words
const SILENCE = 50_000; // ms without a byte, pings included, after which a stream is given up

/** @implements {LoopTransport} */
export class HttpTransport {
  kind = "server";

  /**
   * @param {import("./server_config.js").ServerConfig} server
   * @param {string} loopId
   * @param {Document} page
   */
  constructor(server, loopId, page) {
    this.server = server;
    this.page = page;
    this.base = `${server.api}loops/${encodeURIComponent(loopId)}`;
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
    const watchdog = new Watchdog(signal);
    try {
      const response = await this.#fetch("GET", "/events", { headers, signal: watchdog.signal });
      for await (const batch of eventsOf(streamOf(response))) {
        watchdog.reset();
        yield batch;
      }
    } catch (error) {
      if (signal.aborted || error instanceof ApiError) throw error;
      throw new ApiError("unreachable", "The connection to the server was lost.");
    } finally {
      watchdog.stop();
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
      throw new ApiError("unreachable", "The connection broke before the server answered.");
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

  /** A successful response. @throws {ApiError} for any other (or the abort's own error) */
  async #fetch(method, path, { body, bytes, headers = {}, signal } = {}) {
    const options = {
      method,
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error", // it would lead to a login page, not to the API
      headers: {
        Accept: "application/json",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...authHeaders(this.server, this.page),
        ...headers,
      },
      body: body === undefined ? bytes : JSON.stringify(body),
    };
    let response;
    try {
      response = await fetch(`${this.base}${path}`, options);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError("unreachable", "The server does not answer.");
    }
    if (!response.ok) throw await errorFromResponse(response);
    return response;
  }
}

function streamOf(response) {
  const kind = (response.headers.get("Content-Type") ?? "").split(";")[0].trim();
  if (kind === EVENT_STREAM && response.body !== null) return response.body;
  throw new ApiError("not_here", "Something answered that is no stream of events.");
}

/** Aborts when `signal` does, and after too long a silence. */
class Watchdog {
  #combined;
  #timer;

  constructor(signal) {
    this.#combined = abortAny(signal);
    this.signal = this.#combined.signal;
    this.reset();
  }

  reset() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#combined.abort, SILENCE);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#combined.dispose();
  }
}
