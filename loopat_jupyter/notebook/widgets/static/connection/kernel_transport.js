/**
 * The way to a loop through the notebook's kernel, where the page cannot reach the server itself.
 *
 * Calls and their answers are custom messages of the widget's model; `_relay.py` is the other
 * side. It needs a kernel that lives and, without subshells, one that is not busy. A busy one keeps
 * what it is sent, and would do it later, when the person was told that it failed and may have
 * decided otherwise: so whatever changes something is sent only once the kernel has answered.
 */
import { Refusal } from "./api_error.js";

const PATIENCE = 15_000; // ms for an answer of an idle kernel

/** @implements {import("./http_transport.js").Port} */
export class KernelPort {
  kind = "kernel";
  #model;
  #waiting = new Map();
  #watches = new Map();
  #next = 1;

  /** @param {object} model the widget's model, as anywidget gives it */
  constructor(model) {
    this.#model = model;
    model.on("msg:custom", this.#take);
  }

  /** Listen no more; whatever still waits is refused. */
  close() {
    this.#model.off("msg:custom", this.#take);
    for (const { reject } of this.#waiting.values()) reject(unanswered());
    this.#waiting.clear();
    for (const watch of this.#watches.values()) watch.fail(unanswered());
  }

  loop() {
    return this.#call("loop", {});
  }

  messages(query) {
    return this.#call("messages", query);
  }

  send(content, key, mode) {
    return this.#act("send", { content, key, mode });
  }

  resolve(choiceId, body) {
    return this.#act("choice", { choice_id: choiceId, body });
  }

  async put(path, bytes, part) {
    if (part !== null) {
      const way = "put larger ones with loop.put() in a cell.";
      throw new Refusal("body_too_large", `Through the kernel a file has at most 8 MiB; ${way}`);
    }
    await this.#act("put", { path }, [await bytes.arrayBuffer()]);
  }

  interrupt() {
    return this.#act("interrupt", {});
  }

  async *events(after, signal) {
    const watch = new Inbox();
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

  async #act(op, args, buffers = []) {
    await this.loop();
    return this.#call(op, args, buffers);
  }

  #call(op, args, buffers = []) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(unanswered());
      }, PATIENCE);
      this.#waiting.set(id, {
        resolve: (value) => (clearTimeout(timer), resolve(value)),
        reject: (error) => (clearTimeout(timer), reject(error)),
      });
      if (!this.#post({ op, id, args }, buffers)) this.#settle({ id, error: NO_KERNEL });
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

  #take = (message) => {
    if (message?.op === "answer") this.#settle(message);
    else if (message?.op === "events") this.#watches.get(message.watch)?.push(message.events);
    else if (message?.op === "lost") this.#watches.get(message.watch)?.fail(refusal(message.error));
  };

  #settle({ id, result, error }) {
    const call = this.#waiting.get(id);
    if (call === undefined) return;
    this.#waiting.delete(id);
    if (error) call.reject(refusal(error));
    else call.resolve(result);
  }
}

const NO_KERNEL = { code: "no_kernel", message: "The notebook's kernel does not answer." };

function unanswered() {
  return refusal(NO_KERNEL);
}

function refusal({ code, message, status = 0 }) {
  return new Refusal(code, message, { status });
}

/** Batches of events on their way from a callback to a generator. */
class Inbox {
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
