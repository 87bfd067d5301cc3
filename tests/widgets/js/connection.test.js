import assert from "node:assert/strict";
import { test } from "node:test";

import { authHeaders, readServerConfig } from "../../../loopat_jupyter/notebook/widgets/static/connection/server_config.js";
import { Backoff, pause } from "../../../loopat_jupyter/notebook/widgets/static/connection/backoff.js";
import { findTransport } from "../../../loopat_jupyter/notebook/widgets/static/connection/find_transport.js";
import { errorFromResponse } from "../../../loopat_jupyter/notebook/widgets/static/connection/api_error.js";
import { StreamLimit } from "../../../loopat_jupyter/notebook/widgets/static/connection/stream_limit.js";

const page = (config, cookie = "") => ({
  cookie,
  location: { origin: "https://hub.example" },
  getElementById: () => (config === null ? null : { textContent: config }),
});
const never = new AbortController().signal;

test("the server is where the page says, on the page's own origin", () => {
  const found = readServerConfig(page('{"baseUrl": "/user/a%40b", "token": "t"}'));
  assert.deepEqual(found, { api: "https://hub.example/user/a%40b/loopat/api/v1/", token: "t" });
});

test("a page without such a configuration has no server", () => {
  for (const config of [
    null,
    "no json",
    "{}",
    '{"baseUrl": 3}',
    '{"baseUrl": "//evil.example/"}',
  ]) {
    assert.equal(readServerConfig(page(config)), null, config);
  }
});

test("a request carries the page's token and its XSRF cookie", () => {
  const address = { api: "", token: "t" };
  assert.deepEqual(authHeaders(address, page("{}", "a=1; _xsrf=2|x; b=2")), {
    Authorization: "token t",
    "X-XSRFToken": "2|x",
  });
  assert.deepEqual(authHeaders({ api: "", token: "" }, page("{}", "x_xsrf=1")), {});
});

test("the wait doubles, with jitter, up to a limit, and honours Retry-After", () => {
  const most = new Backoff(() => 1);
  assert.deepEqual(
    [1, 2, 3].map(() => most.next()),
    [400, 800, 1600],
  );
  for (let n = 0; n < 20; n += 1) most.next();
  assert.equal(most.next(), 15_000);
  most.reset();
  assert.equal(new Backoff(() => 0).next(), 200);
  assert.equal(most.next(7), 7000);
});

test("a pause ends with its signal", async () => {
  const stop = new AbortController();
  const paused = pause(60_000, stop.signal);
  stop.abort();
  await paused;
  await pause(60_000, stop.signal);
});

test("an error has the server's own message, or says that it was no Loop API", async () => {
  const body = { error: { type: "rate_limit_error", code: "too_many_requests", message: "Slow." } };
  const headers = { "Retry-After": "3" };
  const slow = await errorFromResponse(new Response(JSON.stringify(body), { status: 429, headers }));
  assert.deepEqual([slow.code, slow.message, slow.retryAfter], ["too_many_requests", "Slow.", 3]);
  assert.ok(slow.retryable);
  const page = await errorFromResponse(new Response("<html>", { status: 404 }));
  assert.deepEqual([page.code, page.retryable], ["not_here", false]);
});

test("leases are shared: a waiting stream gets the lease of the one that has had it longest", async () => {
  const limit = new StreamLimit(2, 1);
  const [first, second] = [await limit.acquire(never), await limit.acquire(never)];
  const third = limit.acquire(never);
  await new Promise((resolve) => first.signal.addEventListener("abort", resolve));
  assert.equal(second.signal.aborted, false);
  first.release();
  first.release(); // twice is once
  const lease = await third;
  assert.equal(lease.signal.aborted, false);
  second.release();
  lease.release();
});

test("no lease is revoked while none is waited for, and an aborted wait gets none", async () => {
  const limit = new StreamLimit(1, 1);
  const lease = await limit.acquire(never);
  const stop = new AbortController();
  const waiting = limit.acquire(stop.signal);
  stop.abort();
  assert.equal(await waiting, null);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(lease.signal.aborted, false);
  lease.release();
});

// ------------------------------------------------------------------ find_transport

/** A model whose kernel answers with `answers[op]`, or not at all. */
function kernel(answers) {
  const listeners = new Set();
  return {
    get: () => "loop_1",
    on: (_name, listener) => listeners.add(listener),
    off: (_name, listener) => listeners.delete(listener),
    send({ op, id }) {
      if (answers === null) throw new Error("Cannot send: the comm is closed");
      for (const listener of listeners) listener({ op: "answer", id, ...answers[op] });
    },
    listeners,
  };
}
const answering = (status, body) => async () =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
const refused = (code) => ({ error: { type: "x", code, message: "No." } });
const jupyter = () => page('{"baseUrl": "/"}');

test("where the server has the loop, nothing goes through the kernel", async (context) => {
  context.mock.method(globalThis, "fetch", answering(200, { id: "loop_1" }));
  const model = kernel(null);
  const { transport, loop } = await findTransport(model, "loop_1", jupyter());
  assert.deepEqual([transport.kind, loop.id, model.listeners.size], ["server", "loop_1", 0]);
});

test("where it does not, or there is none, everything goes through the kernel", async (context) => {
  const answers = { loop: { result: { id: "loop_1" } } };
  context.mock.method(globalThis, "fetch", answering(404, refused("loop_not_found")));
  for (const where of [jupyter(), page(null)]) {
    const { transport, loop } = await findTransport(kernel(answers), "loop_1", where);
    assert.deepEqual([transport.kind, loop.id], ["kernel", "loop_1"]);
  }
});

test("a retryable error of the server is thrown and not answered by the kernel", async (context) => {
  context.mock.method(globalThis, "fetch", answering(503, refused("overloaded")));
  await assert.rejects(findTransport(kernel(null), "loop_1", jupyter()), (error) => error.retryable);
});

test("where no transport works, the error says why", async (context) => {
  context.mock.method(globalThis, "fetch", answering(404, refused("loop_not_found")));
  const model = kernel(null);
  await assert.rejects(findTransport(model, "loop_1", jupyter()), (error) => {
    assert.match(error.message, /has no such loop, and the notebook's kernel does not answer/);
    return !error.retryable;
  });
  assert.equal(model.listeners.size, 0);
  await assert.rejects(
    findTransport(kernel(null), "loop_1", page(null)),
    /no Jupyter server with loopat/,
  );
});

test("an error response through the kernel keeps its own message", async () => {
  const error = { code: "invalid_token", message: "Unknown token.", status: 401 };
  const model = kernel({ loop: { error } });
  await assert.rejects(findTransport(model, "loop_1", page(null)), /Unknown token/);
});
