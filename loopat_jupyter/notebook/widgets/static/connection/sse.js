/**
 * Parses server-sent events from the bytes of a response.
 *
 * `EventSource` is not used: under JupyterHub a cookie request needs the XSRF header, which it
 * cannot send, and it does not expose error responses.
 */

/** @typedef {{name: string, data: object, seq: number | null}} LoopEvent */

/** Collects text as it arrives and returns the events that are complete. */
export class Decoder {
  #rest = "";
  #fields = { event: "", data: [], id: null };

  /**
   * @param {string} text
   * @returns {LoopEvent[]}
   */
  feed(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  #line(raw) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#fields.data.push(value);
    else if (field === "event") this.#fields.event = value;
    else if (field === "id") this.#fields.id = value;
    return null;
  }

  #dispatch() {
    const { event, data, id } = this.#fields;
    this.#fields = { event: "", data: [], id: null };
    if (data.length === 0) return null;
    const seq = id !== null && /^\d+$/.test(id) ? Number(id) : null;
    return { name: event || "message", data: JSON.parse(data.join("\n")), seq };
  }
}

/**
 * The events of a response's body, until it ends, in batches that arrived together.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<LoopEvent[]>}
 */
export async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new Decoder();
  const utf8 = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.feed(utf8.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined); // it may have ended by an abort
  }
}
