/**
 * Uploads of files into the loop's workdir, one after the other, large files in parts.
 *
 * A part that failed is sent again, except the last: it makes the file appear, and after a failure
 * it is unknown whether it did.
 */
import { Backoff, pause } from "../connection/backoff.js";
import { ApiError } from "../connection/api_error.js";

export const PART = 8 << 20; // bytes that one request may carry
const ATTEMPTS = 4;

/**
 * @typedef {object} Upload
 * @property {string} name
 * @property {number} size
 * @property {number} sent bytes
 * @property {"waiting" | "sending" | "done" | "failed"} state
 * @property {string} error
 * @property {AbortController} stop
 */

export class Uploads {
  /** @type {Upload[]} */
  list = [];
  #session;
  #last = Promise.resolve();

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Put files into the workdir.
   * @param {Iterable<File>} files
   * @param {(name: string) => void} onUploaded called for each file once it is in the workdir
   */
  add(files, onUploaded) {
    for (const file of files) {
      const stop = new AbortController();
      const upload = {
        name: file.name,
        size: file.size,
        sent: 0,
        state: "waiting",
        error: "",
        stop,
      };
      this.list.push(upload);
      this.#last = this.#last.then(() => this.#deliver(upload, file, onUploaded));
    }
    this.#session.notify();
  }

  /** Cancel an upload, and remove it from the list. @param {Upload} upload */
  remove(upload) {
    upload.stop.abort();
    this.list = this.list.filter((one) => one !== upload);
    this.#session.notify();
  }

  /** Remove finished uploads from the list. */
  clear() {
    this.list = this.list.filter((one) => one.state !== "done");
  }

  async #deliver(upload, file, onUploaded) {
    const { signal } = upload.stop;
    if (signal.aborted) return;
    upload.state = "sending";
    try {
      for (const { part, bytes } of uploadParts(file)) {
        const last = part === null || part.offset + bytes.size === file.size;
        await this.#withRetries(() => this.#session.transport.put(file.name, bytes, part, signal), {
          signal,
          repeatable: part === null || !last,
        });
        upload.sent += bytes.size;
        this.#session.notify();
      }
      upload.state = "done";
      onUploaded(file.name);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) console.error("loopat:", error);
      upload.state = "failed";
      upload.error = error instanceof ApiError ? error.message : "The file cannot be read.";
    }
    this.#session.notify();
  }

  async #withRetries(send, { signal, repeatable }) {
    const backoff = new Backoff();
    for (;;) {
      try {
        await send();
        return;
      } catch (error) {
        const retry = repeatable && error.retryable && backoff.failures < ATTEMPTS;
        if (!retry || signal.aborted) throw error;
        await pause(backoff.next(error.retryAfter), signal);
      }
    }
  }
}

/**
 * A file in the requests that carry it.
 * @param {Blob} file
 * @returns {Generator<{part: {upload: string, offset: number, size: number} | null, bytes: Blob}>}
 */
export function* uploadParts(file, length = PART) {
  if (file.size <= length) {
    yield { part: null, bytes: file };
    return;
  }
  const upload = Array.from(crypto.getRandomValues(new Uint8Array(12)), (n) => n.toString(36)).join(
    "",
  );
  for (let offset = 0; offset < file.size; offset += length) {
    const bytes = file.slice(offset, offset + length);
    yield { part: { upload, offset, size: file.size }, bytes };
  }
}

/**
 * The files of a drop or a paste; folders are left out, and counted.
 * @param {DataTransfer | null} transfer
 * @returns {{files: File[], folders: number}}
 */
export function filesOf(transfer) {
  const files = [];
  let folders = 0;
  for (const item of transfer?.items ?? []) {
    if (item.kind !== "file") continue;
    if (item.webkitGetAsEntry?.()?.isDirectory) folders += 1;
    else files.push(item.getAsFile());
  }
  return { files: files.filter((file) => file !== null), folders };
}
