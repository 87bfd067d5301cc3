import assert from "node:assert/strict";
import { test } from "node:test";

import { credentials, findServer } from "../../../loopat_jupyter/widgets/static/address.js";
import { Backoff, pause } from "../../../loopat_jupyter/widgets/static/backoff.js";
import { refusalOf } from "../../../loopat_jupyter/widgets/static/refusal.js";
import { Slots } from "../../../loopat_jupyter/widgets/static/slots.js";

const page = (config, cookie = "") => ({
  cookie,
  location: { origin: "https://hub.example" },
  getElementById: () => (config === null ? null : { textContent: config }),
});
const never = new AbortController().signal;

test("the server is where the page says, on the page's own origin", () => {
  const found = findServer(page('{"baseUrl": "/user/a%40b", "token": "t"}'));
  assert.deepEqual(found, { api: "https://hub.example/user/a%40b/loopat/api/v1/", token: "t" });
});

test("a page without such a configuration has no server", () => {
  for (const config of [null, "no json", "{}", '{"baseUrl": 3}', '{"baseUrl": "//evil.example/"}']) {
    assert.equal(findServer(page(config)), null, config);
  }
});

test("a request carries the page's token and its XSRF cookie", () => {
  const address = { api: "", token: "t" };
  assert.deepEqual(credentials(address, page("{}", "a=1; _xsrf=2|x; b=2")), {
    Authorization: "token t",
    "X-XSRFToken": "2|x",
  });
  assert.deepEqual(credentials({ api: "", token: "" }, page("{}", "x_xsrf=1")), {});
});

test("the wait doubles, with jitter, up to a limit, and honours Retry-After", () => {
  const most = new Backoff(() => 1);
  assert.deepEqual([1, 2, 3].map(() => most.next()), [400, 800, 1600]);
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

test("a refusal tells the server's own words, or that it was none of ours", async () => {
  const body = { error: { type: "rate_limit_error", code: "too_many_requests", message: "Slow." } };
  const headers = { "Retry-After": "3" };
  const slow = await refusalOf(new Response(JSON.stringify(body), { status: 429, headers }));
  assert.deepEqual([slow.code, slow.message, slow.retryAfter], ["too_many_requests", "Slow.", 3]);
  assert.ok(slow.passing);
  const page = await refusalOf(new Response("<html>", { status: 404 }));
  assert.deepEqual([page.code, page.passing], ["not_here", false]);
});

test("places are shared: who waits gets one from who has had it long enough", async () => {
  const slots = new Slots(2, 1);
  const [first, second] = [await slots.take(never), await slots.take(never)];
  const third = slots.take(never);
  await new Promise((resolve) => first.signal.addEventListener("abort", resolve));
  assert.equal(second.signal.aborted, false);
  first.free();
  first.free(); // twice is once
  const lease = await third;
  assert.equal(lease.signal.aborted, false);
  second.free();
  lease.free();
});

test("nobody has to leave while nobody waits, and who gives up gets none", async () => {
  const slots = new Slots(1, 1);
  const lease = await slots.take(never);
  const stop = new AbortController();
  const waiting = slots.take(stop.signal);
  stop.abort();
  assert.equal(await waiting, null);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(lease.signal.aborted, false);
  lease.free();
});
