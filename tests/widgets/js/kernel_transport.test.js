import assert from "node:assert/strict";
import { test } from "node:test";

import { KernelTransport } from "../../../loopat_jupyter/notebook/widgets/static/connection/kernel_transport.js";

/** A widget's model whose kernel is busy until `free`, and then handles what it was sent. */
class Model {
  sent = [];
  done = [];
  busy = true;

  on(_name, listener) {
    this.listener = listener;
  }

  off() {}

  send(message) {
    this.sent.push(message);
    if (!this.busy) this.free();
  }

  free() {
    this.busy = false;
    for (const { op, id } of this.sent.splice(0)) {
      this.done.push(op);
      queueMicrotask(() => this.listener({ op: "answer", id, result: {} }));
    }
  }
}

/** Timers fire when `end` is called, not before. */
function controlTimers() {
  const waiting = [];
  const real = globalThis.setTimeout;
  globalThis.setTimeout = (over) => waiting.push(over);
  return {
    end: () => waiting.splice(0).forEach((over) => over()),
    restore: () => (globalThis.setTimeout = real),
  };
}

test("a request that a busy kernel did not accept is not carried out later", async () => {
  const acts = [
    (transport) => transport.resolve("choice_1", { allow: true }),
    (transport) => transport.send("hello", "key", null),
    (transport) => transport.interrupt(),
    (transport) => transport.put("a.txt", new Blob(["x"]), null),
  ];
  for (const act of acts) {
    const timers = controlTimers();
    const model = new Model();
    const refused = assert.rejects(act(new KernelTransport(model)), { code: "no_kernel" });
    await new Promise(setImmediate);
    timers.end();
    await refused;
    timers.restore();
    model.free();
    assert.deepEqual(model.done, ["loop"]);
  }
});

test("an idle kernel carries it out", async () => {
  const model = new Model();
  model.busy = false;
  await new KernelTransport(model).resolve("choice_1", { allow: false });
  assert.deepEqual(model.done, ["loop", "choice"]);
});
