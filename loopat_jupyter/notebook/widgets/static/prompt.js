/**
 * The widget ChoicePrompt: one choice, to resolve here or to show how it was resolved elsewhere.
 */
import { ChoiceView, outcomeText } from "./views/choice_view.js";
import { h, setText } from "./dom/elements.js";
import { captureKeys } from "./dom/keyboard.js";
import { PromptSession } from "./state/prompt_session.js";

class PromptView {
  #choice = null;
  #session;
  #note = h("p", { class: "loopat-note", role: "status" });
  #body = h("div");
  #releaseKeys;
  #listener = () => this.#draw();

  /** @param {PromptSession} session */
  constructor(session) {
    this.#session = session;
    const about = { role: "region", "aria-label": "Loop choice" };
    this.el = h("section", { class: "loopat loopat-prompt", ...about }, this.#body, this.#note);
    session.addEventListener("change", this.#listener);
    this.#releaseKeys = captureKeys(this.el);
    this.#draw();
  }

  close() {
    this.#releaseKeys();
    this.#session.removeEventListener("change", this.#listener);
  }

  #draw() {
    const { request, resolved, message } = this.#session;
    if (request !== null && this.#choice === null) {
      this.#choice = new ChoiceView(request, (id, body) => this.#session.resolve(id, body));
      this.#body.append(this.#choice.el);
    }
    if (resolved !== null) this.#choice?.showResolution(resolved);
    setText(
      this.#note,
      resolved !== null && this.#choice === null ? outcomeText(resolved) : message,
    );
    this.#note.hidden = this.#note.textContent === "";
  }
}

function choicePrompt() {
  let session = null;
  let views = 0;
  return {
    initialize({ model }) {
      session = new PromptSession(model, document);
      return () => session.stop();
    },
    render({ el }) {
      const view = new PromptView(session);
      el.append(view.el);
      views += 1;
      session.start();
      return () => {
        view.close();
        views -= 1;
        if (views === 0) session.stop();
      };
    },
  };
}

export default choicePrompt;
