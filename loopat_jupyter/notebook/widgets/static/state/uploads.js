/**
 * Files on their way into the loop's workdir, one after the other, in parts where they are large.
 *
 * A part that did not arrive is sent again, but the last: it makes the file appear, and whether it
 * did is then not known.
 */
import { Backoff, pause } from "../connection/backoff.js";
import { Refusal } from "../connection/api_error.js";

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
   * @param {(name: string) => void} arrived called for each that is there
   */
  add(files, arrived) {
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
      this.#last = this.#last.then(() => this.#deliver(upload, file, arrived));
    }
    this.#session.touch();
  }

  /** Break off, or put out of sight. @param {Upload} upload */
  remove(upload) {
    upload.stop.abort();
    this.list = this.list.filter((one) => one !== upload);
    this.#session.touch();
  }

  /** Put what has arrived out of sight. */
  clear() {
    this.list = this.list.filter((one) => one.state !== "done");
  }

  async #deliver(upload, file, arrived) {
    const { signal } = upload.stop;
    if (signal.aborted) return;
    upload.state = "sending";
    try {
      for (const { part, bytes } of cut(file)) {
        const last = part === null || part.offset + bytes.size === file.size;
        await this.#patiently(() => this.#session.port.put(file.name, bytes, part, signal), {
          signal,
          repeatable: part === null || !last,
        });
        upload.sent += bytes.size;
        this.#session.touch();
      }
      upload.state = "done";
      arrived(file.name);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refusal)) console.error("loopat:", error);
      upload.state = "failed";
      upload.error = error instanceof Refusal ? error.message : "The file cannot be read.";
    }
    this.#session.touch();
  }

  async #patiently(send, { signal, repeatable }) {
    const backoff = new Backoff();
    for (;;) {
      try {
        await send();
        return;
      } catch (error) {
        const again = repeatable && error.passing && backoff.failures < ATTEMPTS;
        if (!again || signal.aborted) throw error;
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
export function* cut(file, length = PART) {
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
