import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError } from "../../../loopat_jupyter/notebook/widgets/static/connection/api_error.js";
import { Uploads, uploadParts } from "../../../loopat_jupyter/notebook/widgets/static/state/uploads.js";

/** A session whose transport keeps what it is given, and fails with the given errors first. */
function session(failures = []) {
  const got = [];
  const put = async (path, bytes, part) => {
    const failure = failures.shift();
    if (failure) throw failure;
    got.push([path, await bytes.text(), part?.offset ?? null]);
  };
  return { got, transport: { put }, notify: () => undefined };
}
const lost = () => new ApiError("unreachable", "The server does not answer.");
const settled = async (uploads) => {
  while (uploads.list.some((one) => ["waiting", "sending"].includes(one.state))) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

test("a file goes whole where one request carries it, else in parts that are one upload", () => {
  assert.deepEqual(
    [...uploadParts(new Blob(["abc"]), 3)].map(({ part }) => part),
    [null],
  );
  const parts = [...uploadParts(new Blob(["abcdefg"]), 3)];
  assert.deepEqual(
    parts.map(({ part, bytes }) => [part.offset, part.size, bytes.size]),
    [
      [0, 7, 3],
      [3, 7, 3],
      [6, 7, 1],
    ],
  );
  assert.equal(new Set(parts.map(({ part }) => part.upload)).size, 1);
  assert.match(parts[0].part.upload, /^[A-Za-z0-9_-]{1,64}$/);
});

test("files are uploaded one after the other, and a lost request is retried", async () => {
  const one = session([lost()]);
  const uploads = new Uploads(one);
  const arrived = [];
  uploads.add([new File(["a"], "a.txt"), new File(["b"], "b.txt")], (name) => arrived.push(name));
  await settled(uploads);
  assert.deepEqual(arrived, ["a.txt", "b.txt"]);
  assert.deepEqual(one.got, [
    ["a.txt", "a", null],
    ["b.txt", "b", null],
  ]);
  uploads.clear();
  assert.deepEqual(uploads.list, []);
});

test("an error is shown, and the next file is still uploaded", async () => {
  const one = session([new ApiError("body_too_large", "Too large.", { status: 413 })]);
  const uploads = new Uploads(one);
  uploads.add([new File(["a"], "a.txt"), new File(["b"], "b.txt")], () => undefined);
  await settled(uploads);
  assert.deepEqual(
    uploads.list.map(({ state, error }) => [state, error]),
    [
      ["failed", "Too large."],
      ["done", ""],
    ],
  );
});

test("one that was taken off the list is not sent", async () => {
  const one = session();
  const uploads = new Uploads(one);
  uploads.add([new File(["a"], "a.txt"), new File(["b"], "b.txt")], () => undefined);
  uploads.remove(uploads.list[1]);
  await settled(uploads);
  assert.deepEqual(one.got, [["a.txt", "a", null]]);
});
