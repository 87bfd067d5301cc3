import assert from "node:assert/strict";
import { test } from "node:test";

import { Decoder, eventsOf } from "../../../loopat_jupyter/notebook/widgets/static/connection/sse.js";

const WIRE =
  'id: 7\nevent: assistant_delta\ndata: {"text":"grüß 👋","turn_id":"turn_1"}\n\n' +
  "event: ping\ndata: {}\n\n: a comment\n\nid: 8\r\nevent: done\r\ndata: {}\r\n\r\n";
const EVENTS = [
  { name: "assistant_delta", data: { text: "grüß 👋", turn_id: "turn_1" }, seq: 7 },
  { name: "ping", data: {}, seq: null },
  { name: "done", data: {}, seq: 8 },
];

async function collect(chunks) {
  const found = [];
  for await (const batch of eventsOf(ReadableStream.from(chunks))) found.push(...batch);
  return found;
}

test("events come out whole, wherever the bytes were cut", async () => {
  const bytes = new TextEncoder().encode(WIRE);
  for (let at = 0; at <= bytes.length; at += 1) {
    assert.deepEqual(await collect([bytes.slice(0, at), bytes.slice(at)]), EVENTS);
  }
});

test("an event that was cut off is not one", () => {
  const decoder = new Decoder();
  assert.deepEqual(decoder.feed("id: 1\nevent: done\ndata: {}\n"), []);
  assert.equal(decoder.feed("\n").length, 1);
});

test("a stream that nobody reads any more is cancelled", async () => {
  let cancelled = false;
  const body = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode(WIRE)),
    cancel: () => (cancelled = true),
  });
  for await (const batch of eventsOf(body)) if (batch.length > 0) break;
  assert.ok(cancelled);
});
