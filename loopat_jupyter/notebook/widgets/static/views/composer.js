/**
 * The field for a message: Enter sends, Shift+Enter breaks the line, arrow up (in an empty field,
 * or while going through them) recalls earlier messages. What cannot be sent stays in the field.
 */
import { h, icon, setText, uniqueId } from "../dom/elements.js";
import { Outbox } from "../state/outbox.js";
import { direction } from "../dom/text_sanitizer.js";

const SEND = "M2 2.2 14.5 8 2 13.8V9.3L9.5 8 2 6.7z";
const STOP = "M4 4h8v8H4z";
const MODES = [
  ["", "Loop's own mode"],
  ["default", "Ask before edits and commands"],
  ["acceptEdits", "Edit freely, ask before commands"],
  ["plan", "Plan only: change nothing"],
  ["bypassPermissions", "Run everything unasked"],
];

const LARGE_PASTE = 10_000; // characters

export class Composer {
  #field;
  #note;
  #send;
  #stop;
  #mode;
  #actions;
  #recalled = -1;
  #draft = "";

  /**
   * @param {{send: (text: string, mode: string | null) => void, stop: () => void,
   *   history: () => string[], files: (transfer: DataTransfer) => void}} actions
   *   `history`: sent messages, newest first; `files`: takes files that were pasted
   * @param {HTMLElement} uploadButton the button for files
   */
  constructor(actions, uploadButton) {
    this.#actions = actions;
    const note = uniqueId("note");
    this.#note = h("p", { id: note, class: "loopat-composer-note", role: "status" });
    this.#field = h("textarea", {
      class: "loopat-field",
      rows: 1,
      placeholder: "Message the loop",
      "aria-label": "Message to the loop",
      "aria-describedby": note,
      spellcheck: true,
      on: {
        input: () => this.#changed(),
        paste: (event) => this.#paste(event),
      },
    });
    this.#send = this.#button("Send message", SEND, () => this.#submit(), "loopat-send");
    this.#stop = this.#button("Stop the turn", STOP, actions.stop, "loopat-stop");
    this.#mode = h("select", { class: "loopat-mode", "aria-label": "Permission mode" });
    this.#mode.append(...MODES.map(([value, text]) => h("option", { value }, text)));
    const bar = h(
      "div",
      { class: "loopat-composer-bar" },
      this.#mode,
      uploadButton,
      this.#stop,
      this.#send,
    );
    this.el = h("div", { class: "loopat-composer" }, this.#field, bar, this.#note);
    this.update({ busy: false, closed: "" });
  }

  /** @param {{busy: boolean, closed: string}} state `closed`: why nothing can be sent */
  update({ busy, closed }) {
    this.#stop.hidden = !busy;
    this.#send.disabled = closed !== "";
    this.#field.disabled = closed !== "" && this.#field.value === "";
    if (closed !== this.#field.dataset.closed) {
      this.#field.dataset.closed = closed;
      setText(this.#note, closed);
    }
  }

  /** Put a text back into the field. @param {string} text */
  restore(text) {
    this.#field.value = this.#field.value ? `${text}\n${this.#field.value}` : text;
    this.#changed();
    this.focus();
  }

  /** Insert the name of a file at the cursor. @param {string} name */
  mention(name) {
    const { value, selectionStart: start, selectionEnd: end } = this.#field;
    const before = start === 0 || /\s$/.test(value.slice(0, start)) ? "" : " ";
    const quoted = /[\s"'`]/.test(name) ? JSON.stringify(name) : name;
    this.#field.setRangeText(`${before}${quoted} `, start, end, "end");
    this.#changed();
  }

  /** Show a sentence below the field, until the text changes. @param {string} text */
  showNote(text) {
    setText(this.#note, text);
  }

  focus() {
    this.#field.focus();
  }

  #button(label, path, action, kind) {
    const button = h("button", {
      type: "button",
      class: `loopat-icon-button ${kind}`,
      title: label,
    });
    button.setAttribute("aria-label", label);
    button.append(icon(path));
    button.addEventListener("click", action);
    return button;
  }

  #submit() {
    if (this.#send.disabled) return;
    const text = this.#field.value;
    const problem = Outbox.validate(text);
    setText(this.#note, problem);
    if (problem) return;
    this.#field.value = "";
    this.#changed();
    this.#actions.send(text, this.#mode.value || null);
    this.focus();
  }

  #changed() {
    this.#recalled = -1;
    setText(this.#note, this.#field.dataset.closed ?? "");
    this.#grow();
  }

  /** Insert a large paste at once: the browser's own insertion takes minutes for many lines. */
  #paste(event) {
    const text = event.clipboardData?.getData("text/plain") ?? "";
    if (text === "" && event.clipboardData?.files.length > 0) {
      event.preventDefault();
      this.#actions.files(event.clipboardData);
      return;
    }
    if (text.length < LARGE_PASTE) return;
    event.preventDefault();
    const { selectionStart, selectionEnd } = this.#field;
    this.#field.setRangeText(text, selectionStart, selectionEnd, "end");
    this.#changed();
    setText(this.#note, Outbox.validate(this.#field.value));
  }

  #grow() {
    // `dir="auto"` would do the same, but takes a minute over a megabyte in a field of this kind.
    this.#field.dir = direction(this.#field.value);
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight + 2, 240)}px`;
  }

  /** A key was pressed somewhere in the chat. @param {KeyboardEvent} event */
  key(event) {
    if (event.target !== this.#field || event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === "ArrowUp" && this.#mayRecall()) {
      this.#recall(1, event);
    } else if (event.key === "ArrowDown" && this.#recalled >= 0 && this.#mayRecall()) {
      this.#recall(-1, event);
    }
  }

  #mayRecall() {
    return this.#recalled >= 0 || this.#field.value === "";
  }

  #recall(step, event) {
    const history = this.#actions.history();
    const next = this.#recalled + step;
    if (next >= history.length) return;
    event.preventDefault();
    if (this.#recalled < 0) this.#draft = this.#field.value;
    this.#field.value = next < 0 ? this.#draft : history[next];
    this.#grow();
    this.#recalled = next;
  }
}
