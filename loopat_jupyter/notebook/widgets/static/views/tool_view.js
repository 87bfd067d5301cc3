/**
 * A tool call as a card: its name, summary and state; its whole input and result when it is opened.
 *
 * Events have a summary only. Input and result are loaded from the history when the card is opened,
 * and again when the result arrives.
 */
import { h, isolated, setText } from "../dom/elements.js";
import { toolInputView } from "./tool_input_view.js";
import { codeBlock } from "./markdown.js";
import { oneLine, stripControls } from "../dom/text_sanitizer.js";

const STATES = {
  running: "running",
  waiting: "waits for you",
  ok: "done",
  failed: "failed",
  cut: "not finished",
};

export class ToolView {
  #part;
  #load;
  #state;
  #body;
  #shownFor = null;

  /**
   * @param {import("../state/transcript.js").ToolPart} part
   * @param {() => Promise<object | null>} load the call from the history
   */
  constructor(part, load) {
    this.#part = part;
    this.#load = load;
    this.#state = h("span", { class: "loopat-tool-state" });
    this.#body = h("div", { class: "loopat-tool-body" });
    const summary = h(
      "summary",
      null,
      h("span", { class: "loopat-tool-name" }, oneLine(part.tool, 80)),
      isolated(oneLine(part.summary), { class: "loopat-tool-summary" }),
      this.#state,
    );
    this.el = h(
      "details",
      { class: "loopat-tool", data: { loopatTool: part.tool } },
      summary,
      this.#body,
    );
    this.el.addEventListener("toggle", () => this.#fill());
  }

  /** @param {{open: boolean, waits: import("../state/transcript.js").Part | null}} turn */
  update({ open, waits }) {
    const { ok } = this.#part;
    const unfinished = waits === this.#part ? "waiting" : open ? "running" : "cut";
    const state = ok === null ? unfinished : ok ? "ok" : "failed";
    if (this.el.dataset.state === state) return;
    this.el.dataset.state = state;
    setText(this.#state, STATES[state]);
    this.#fill();
  }

  async #fill() {
    const state = this.el.dataset.state;
    if (!this.el.open || this.#shownFor === state) return;
    this.#shownFor = state;
    if (this.#body.childElementCount === 0) this.#body.append(note("Loading…"));
    try {
      const call = await this.#load();
      this.#body.replaceChildren(...(call === null ? [note("Nothing is recorded.")] : parts(call)));
    } catch (error) {
      this.#shownFor = null;
      this.#body.replaceChildren(note(`Not loaded: ${error.message} Close and open it again.`));
    }
  }
}

function note(text) {
  return h("p", { class: "loopat-note" }, text);
}

function parts({ tool, input, result, ok }) {
  const command = tool === "Bash" && typeof input?.command === "string" ? input.command : undefined;
  const shown = [h("h5", null, "Input"), toolInputView(tool, input, command)];
  if (ok === null) return shown;
  const text = stripControls(result ?? "");
  shown.push(h("h5", null, ok ? "Result" : "Result: it failed"));
  shown.push(text.trim() === "" ? note("No output.") : codeBlock(text));
  return shown;
}
