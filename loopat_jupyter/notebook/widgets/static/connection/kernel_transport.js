/**
 * Requests of the Loop API through the notebook's kernel, where the page cannot reach the server.
 *
 * Requests and responses are custom messages of the widget's model; `_kernel_bridge.py` is the
 * other side. It needs a running kernel, which without subshells must not be busy. A busy kernel
 * queues messages and would handle them after this side has reported a failure, when the person may
 * have decided otherwise. So a request that changes something is sent only after the kernel has
 * responded to another one.
 */
import { ApiError } from "./api_error.js";

const RESPONSE_TIMEOUT = 15_000; // ms for a response of an idle kernel

/** @implements {import("./http_transport.js").LoopTransport} */
export class KernelTransport {
  kind = "kernel";
  #model;
  #waiting = new Map();
  #watches = new Map();
  #next = 1;

  /** @param {object} model the widget's model, as anywidget gives it */
  constructor(model) {
    this.#model = model;
    model.on("msg:custom", this.#onMessage);
  }

  /** Stop listening; pending requests and streams fail. */
  close() {
    this.#model.off("msg:custom", this.#onMessage);
    for (const { reject } of this.#waiting.values()) reject(noKernelError());
    this.#waiting.clear();
    for (const watch of this.#watches.values()) watch.fail(noKernelError());
  }

  loop() {
    return this.#call("loop", {});
  }

  messages(query) {
    return this.#call("messages", query);
  }

  send(content, key, mode) {
    return this.#callWhenIdle("send", { content, key, mode });
  }

  resolve(choiceId, body) {
    return this.#callWhenIdle("choice", { choice_id: choiceId, body });
  }

  async put(path, bytes, part) {
    if (part !== null) {
      const way = "put larger ones with loop.put() in a cell.";
      throw new ApiError("body_too_large", `Through the kernel a file has at most 8 MiB; ${way}`);
    }
    await this.#callWhenIdle("put", { path }, [await bytes.arrayBuffer()]);
  }

  interrupt() {
    return this.#callWhenIdle("interrupt", {});
  }

  async *events(after, signal) {
    const watch = new BatchQueue();
    const name = this.#next++;
    this.#watches.set(name, watch);
    const stop = () => watch.end();
    signal.addEventListener("abort", stop);
    try {
      await this.#call("watch", { watch: name, after });
      yield* watch.batches();
    } finally {
      signal.removeEventListener("abort", stop);
      this.#watches.delete(name);
      this.#post({ op: "unwatch", watch: name });
    }
  }

  async #callWhenIdle(op, args, buffers = []) {
    await this.loop();
    return this.#call(op, args, buffers);
  }

  #call(op, args, buffers = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(noKernelError());
      }, RESPONSE_TIMEOUT);
      this.#waiting.set(id, {
        resolve: (value) => (clearTimeout(timer), resolve(value)),
        reject: (error) => (clearTimeout(timer), reject(error)),
      });
      if (!this.#post({ op, id, args }, buffers)) this.#handleResponse({ id, error: NO_KERNEL });
    });
  }

  #post(message, buffers = []) {
    try {
      this.#model.send(message, undefined, buffers);
      return true;
    } catch {
      return false; // the comm is closed: the kernel was restarted, or there never was one
    }
  }

  #onMessage = (message) => {
    if (message?.op === "answer") this.#handleResponse(message);
    else if (message?.op === "events") this.#watches.get(message.watch)?.push(message.events);
    else if (message?.op === "lost")
      this.#watches.get(message.watch)?.fail(toApiError(message.error));
  };

  #handleResponse({ id, result, error }) {
    const call = this.#waiting.get(id);
    if (call === undefined) return;
    this.#waiting.delete(id);
    if (error) call.reject(toApiError(error));
    else call.resolve(result);
  }
}

const NO_KERNEL = { code: "no_kernel", message: "The notebook's kernel does not answer." };

function noKernelError() {
  return toApiError(NO_KERNEL);
}

function toApiError({ code, message, status = 0 }) {
  return new ApiError(code, message, { status });
}

/** Batches of events on their way from a callback to a generator. */
class BatchQueue {
  #batches = [];
  #ended = false;
  #error = null;
  #wake = () => undefined;

  push(batch) {
    this.#batches.push(batch);
    this.#wake();
  }

  end() {
    this.#ended = true;
    this.#wake();
  }

  fail(error) {
    this.#error = error;
    this.end();
  }

  async *batches() {
    for (;;) {
      while (this.#batches.length > 0) yield this.#batches.shift();
      if (this.#error !== null) throw this.#error;
      if (this.#ended) return;
      await new Promise((wake) => (this.#wake = wake));
    }
  }
}
