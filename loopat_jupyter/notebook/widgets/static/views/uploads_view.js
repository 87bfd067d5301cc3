/**
 * The list of uploads above the composer, and its inputs: drop, paste, and a button.
 */
import { h, icon, isolated, setText } from "../dom/elements.js";
import { oneLine } from "../dom/text_sanitizer.js";
import { filesOf } from "../state/uploads.js";

const CLIP =
  "M11 4.5v6a3 3 0 0 1-6 0V4a2 2 0 0 1 4 0v6a1 1 0 0 1-2 0V5H6v5a2 2 0 0 0 4 0V4a3 3 0 0 0-6 0v6.500a4 4 0 0 0 8 0v-6z";

/** @param {number} bytes */
export function sizeText(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(units.length, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toFixed(1)} ${units[power - 1]}`;
}

export class UploadsView {
  #uploads;
  #onUploaded;
  #showNote;
  #rows = new Map();
  #input = h("input", { type: "file", multiple: true, hidden: true, tabIndex: -1 });

  /**
   * @param {import("../state/uploads.js").Uploads} uploads
   * @param {(name: string) => void} onUploaded a file is in the workdir
   * @param {(text: string) => void} showNote a sentence to the person
   */
  constructor(uploads, onUploaded, showNote) {
    this.#uploads = uploads;
    this.#onUploaded = onUploaded;
    this.#showNote = showNote;
    const label = "Put files into the loop";
    this.button = h("button", {
      type: "button",
      class: "loopat-icon-button loopat-clip",
      title: label,
    });
    this.button.setAttribute("aria-label", label);
    this.button.append(icon(CLIP));
    this.button.addEventListener("click", () => this.#input.click());
    this.#input.addEventListener("change", () => this.#onFilesPicked());
    this.el = h("div", {
      class: "loopat-uploads",
      role: "group",
      "aria-label": "Files on their way",
    });
    this.el.append(this.#input);
  }

  /** Accept files that are dropped on `target`. @param {HTMLElement} target */
  acceptDrops(target) {
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    const over = (event) => {
      if (!carries(event) || this.button.disabled) return;
      event.preventDefault();
      event.stopPropagation();
      target.dataset.drop = "true";
    };
    const leave = (event) => {
      if (!target.contains(event.relatedTarget)) delete target.dataset.drop;
    };
    const drop = (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      event.stopPropagation();
      delete target.dataset.drop;
      this.upload(event.dataTransfer);
    };
    target.addEventListener("dragenter", over);
    target.addEventListener("dragover", over);
    target.addEventListener("dragleave", leave);
    target.addEventListener("drop", drop);
  }

  /** Upload the files of a drop or a paste. @param {DataTransfer} transfer */
  upload(transfer) {
    if (this.button.disabled) return;
    const { files, folders } = filesOf(transfer);
    if (folders > 0) this.#showNote("A folder cannot be dropped here: drop the files in it.");
    this.#uploads.add(files, this.#onUploaded);
  }

  /** @param {boolean} closed whether the loop takes nothing */
  update(closed) {
    this.button.disabled = closed;
    for (const [upload, row] of this.#rows) {
      if (!this.#uploads.list.includes(upload)) {
        row.el.remove();
        this.#rows.delete(upload);
      }
    }
    for (const upload of this.#uploads.list) {
      if (!this.#rows.has(upload)) this.#rows.set(upload, this.#makeRow(upload));
      const row = this.#rows.get(upload);
      row.el.dataset.state = upload.state;
      setText(row.state, stateText(upload));
    }
    this.el.hidden = this.#rows.size === 0;
  }

  #onFilesPicked() {
    this.#uploads.add([...this.#input.files], this.#onUploaded);
    this.#input.value = "";
  }

  #makeRow(upload) {
    const state = h("span", { class: "loopat-upload-state", role: "status" });
    const remove = h("button", { type: "button", class: "loopat-copy" }, "×");
    remove.setAttribute("aria-label", `Remove ${oneLine(upload.name, 80)} from the list`);
    remove.addEventListener("click", () => this.#uploads.remove(upload));
    const name = isolated(oneLine(upload.name, 120), { class: "loopat-upload-name" });
    const el = h("div", { class: "loopat-upload" }, name, state, remove);
    this.el.append(el);
    return { el, state };
  }
}

function stateText({ state, sent, size, error }) {
  if (state === "failed") return `Not put into the loop: ${error}`;
  if (state === "done") return `${sizeText(size)}, in the loop's workdir`;
  if (state === "waiting") return "waiting";
  return size > 0 && sent > 0
    ? `${Math.floor((100 * sent) / size)} % of ${sizeText(size)}`
    : "sending…";
}
