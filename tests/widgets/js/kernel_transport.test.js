import assert from "node:assert/strict";
import { test } from "node:test";

import { KernelTransport } from "../../../loopat_jupyter/notebook/widgets/static/connection/kernel_transport.js";

/** A widget's model whose kernel is busy until `free`, and then does what it was sent. */
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

/** Patience ends when `end` is called, not before. */
function patience() {
  const waiting = [];
  const real = globalThis.setTimeout;
  globalThis.setTimeout = (over) => waiting.push(over);
  return {
    end: () => waiting.splice(0).forEach((over) => over()),
    restore: () => (globalThis.setTimeout = real),
  };
}

test("what a busy kernel did not take is not done later", async () => {
  const acts = [
    (transport) => transport.resolve("choice_1", { allow: true }),
    (transport) => transport.send("hello", "key", null),
    (transport) => transport.interrupt(),
    (transport) => transport.put("a.txt", new Blob(["x"]), null),
  ];
  for (const act of acts) {
    const time = patience();
    const model = new Model();
    const refused = assert.rejects(act(new KernelTransport(model)), { code: "no_kernel" });
    await new Promise(setImmediate);
    time.end();
    await refused;
    time.restore();
    model.free();
    assert.deepEqual(model.done, ["loop"]);
  }
});

test("a free kernel does it", async () => {
  const model = new Model();
  model.busy = false;
  await new KernelTransport(model).resolve("choice_1", { allow: false });
  assert.deepEqual(model.done, ["loop", "choice"]);
});
