/**
 * A choice that a turn waits for: a permission to give, or questions to answer.
 *
 * It is disabled and labelled as soon as it is resolved, by this view or another client. A response
 * that comes too late is no error: the label shows the decision.
 */
import { h, isolated, setText, uniqueId } from "../dom/elements.js";
import { toolInputView } from "./tool_input_view.js";
import { ApiError } from "../connection/api_error.js";
import { oneLine } from "../dom/text_sanitizer.js";

const OUTCOMES = {
  allowed: "Allowed",
  denied: "Denied",
  answered: "Answered",
  cancelled: "No longer needed",
};
const SOURCES = {
  web: "in a Jupyter session",
  api: "by a program",
  policy: "by the server",
};

const KINDS = {
  permission: { now: "Permission needed", past: "Permission" },
  question: { now: "The agent asks", past: "Question" },
};

/** The resolution of a choice as a sentence. @param {object} resolved `choice_resolved`'s data */
export function outcomeText({ outcome, source, rule }) {
  const decision = OUTCOMES[outcome] ?? oneLine(String(outcome));
  const by = outcome === "cancelled" ? "" : ` ${SOURCES[source] ?? ""}`.trimEnd();
  const remembered = rule
    ? ` Not asked again in this loop for ${oneLine(rule.prefix ? `${rule.tool}: ${rule.prefix}` : rule.tool)}.`
    : "";
  return `${decision}${by}.${remembered}`;
}

export class ChoiceView {
  #request;
  #resolve;
  #onAnswered;
  #buttons = [];
  #kind;
  #title;
  #status;
  #fields;
  #resolved = false;
  #wantsRule = false;
  #answerOf = () => ({});

  /**
   * @param {object} request `requires_choice`'s data
   * @param {(choiceId: string, body: object) => Promise<void>} resolve posts the answer
   * @param {() => void} [after] called when this view gave the answer: focus may move on
   */
  constructor(request, resolve, onAnswered = () => undefined) {
    this.#request = request;
    this.#resolve = resolve;
    this.#onAnswered = onAnswered;
    const title = uniqueId("choice");
    this.#status = h("p", { class: "loopat-outcome", role: "status" });
    this.#fields = h("fieldset", { class: "loopat-choice-fields" });
    this.el = h("section", {
      class: "loopat-choice",
      role: "group",
      "aria-labelledby": title,
      data: { loopatChoice: request.choice_id, kind: request.kind, state: "pending" },
    });
    this.el.append(this.#heading(title), this.#fields, this.#status);
    if (request.kind === "permission") this.#permission();
    else this.#questions();
  }

  /** Show how it was resolved. @param {object} resolved `choice_resolved`'s data */
  showResolution(resolved) {
    if (this.#resolved) return;
    this.#resolved = true;
    const hadFocus = this.el.contains(document.activeElement);
    this.el.dataset.state = resolved.outcome;
    this.#disable(true);
    this.#collapse();
    setText(this.#kind, KINDS[this.#request.kind].past);
    this.#title.hidden = false;
    // The server makes no rule of a command with several parts: then `rule` is missing.
    const forgotten = this.#wantsRule && resolved.outcome === "allowed" && !resolved.rule;
    const more = forgotten ? " It cannot be remembered, and will be asked again." : "";
    setText(this.#status, outcomeText(resolved) + more);
    if (hadFocus) this.#onAnswered();
  }

  /** Focus the text to decide on, so that no key press activates a button by accident. */
  focus() {
    this.el.querySelector("[tabindex], input, button")?.focus();
  }

  /** Move the form into a closed `details`. */
  #collapse() {
    const asked = h("details", { class: "loopat-asked" }, h("summary", null, "What was asked"));
    asked.append(this.#fields);
    this.el.append(asked);
  }

  #heading(id) {
    const { kind, payload } = this.#request;
    const title = payload.title || payload.tool || payload.questions?.[0]?.question || "";
    this.#kind = h("span", { class: "loopat-choice-kind" }, KINDS[kind].now);
    this.#title = isolated(oneLine(title), { hidden: kind === "question" });
    return h("h4", { id, class: "loopat-choice-title" }, this.#kind, this.#title);
  }

  #permission() {
    const { tool, input, command, reason, display_name: name } = this.#request.payload;
    const about = h("p", { class: "loopat-choice-tool" }, "Tool ", isolated(oneLine(name || tool)));
    if (name && name !== tool) about.append(" (", isolated(oneLine(tool)), ")");
    this.#fields.append(about, toolInputView(tool, input, command));
    if (reason)
      this.#fields.append(h("p", { class: "loopat-reason", dir: "auto" }, oneLine(reason, 500)));
    this.#fields.append(
      this.#actions(
        this.#button("Allow", { allow: true }, "primary"),
        this.#button("Deny", { allow: false }, "deny"),
        this.#button("Allow and remember for this loop", { allow: true, remember: "loop" }),
      ),
    );
  }

  #questions() {
    const forms = this.#request.payload.questions.map((question) => new QuestionForm(question));
    this.#answerOf = () => Object.fromEntries(forms.map((form) => [form.id, form.value]));
    const form = h("form", { class: "loopat-questions", noValidate: true });
    const send = h("button", { type: "submit", class: "loopat-button loopat-primary" }, "Answer");
    this.#buttons.push(send);
    form.append(...forms.map((one) => one.el), this.#actions(send));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const missing = forms.find((one) => one.isEmpty);
      if (missing === undefined) this.#answer({ answers: this.#answerOf() });
      else {
        setText(this.#status, "Every question needs an answer: pick one, or write your own.");
        missing.focus();
      }
    });
    this.#fields.append(form);
  }

  #actions(...buttons) {
    return h("div", { class: "loopat-actions" }, ...buttons);
  }

  #button(label, body, kind = "plain") {
    const button = h("button", { type: "button", class: `loopat-button loopat-${kind}` }, label);
    button.addEventListener("click", () => this.#answer(body));
    this.#buttons.push(button);
    return button;
  }

  async #answer(body) {
    this.#disable(true);
    this.#wantsRule = body.remember !== undefined;
    setText(this.#status, "Sending your answer…");
    try {
      await this.#resolve(this.#request.choice_id, body);
      if (!this.#resolved) setText(this.#status, "Answered.");
      this.#onAnswered();
    } catch (error) {
      if (this.#resolved) return;
      if (error instanceof ApiError && error.code === "choice_not_found") {
        setText(this.#status, "It was already decided elsewhere.");
        return;
      }
      if (!(error instanceof ApiError)) console.error("loopat:", error);
      this.#disable(false);
      setText(this.#status, `Not answered: ${error.message} Try again.`);
    }
  }

  #disable(disabled) {
    this.#fields.disabled = disabled;
    for (const button of this.#buttons) button.disabled = disabled;
  }
}

/** The form of one question: its options, and a field for another answer. */
class QuestionForm {
  #multi;
  #boxes = [];
  #freeText;

  constructor({ id, question, header, options = [], multi_select: multi = false }) {
    this.id = id;
    this.#multi = multi;
    const name = uniqueId("question");
    this.#freeText = h("input", { type: "text", class: "loopat-own", dir: "auto" });
    const label = options.length > 0 ? "Another answer" : "Your answer";
    this.#freeText.setAttribute("aria-label", label);
    this.#freeText.placeholder = `${label}…`;
    this.#freeText.addEventListener("input", () => this.#chooseFreeText());
    const legend = h("legend", { dir: "auto" }, oneLine(question, 2000));
    if (header) legend.prepend(h("span", { class: "loopat-tag" }, oneLine(header, 60)));
    this.el = h("fieldset", { class: "loopat-question" }, legend);
    this.el.append(...options.map((option) => this.#option(option, name)), this.#freeText);
  }

  get value() {
    const picked = this.#boxes.filter((box) => box.checked).map((box) => box.value);
    const own = this.#freeText.value.trim();
    if (this.#multi) return own ? [...picked, own] : picked;
    return own || picked[0] || "";
  }

  get isEmpty() {
    return this.value.length === 0;
  }

  focus() {
    (this.#boxes[0] ?? this.#freeText).focus();
  }

  #option({ label, description }, name) {
    const type = this.#multi ? "checkbox" : "radio";
    const box = h("input", { type, name, value: label });
    box.addEventListener("change", () => {
      if (!this.#multi && box.checked) this.#freeText.value = "";
    });
    this.#boxes.push(box);
    const about = description
      ? h("span", { class: "loopat-about", dir: "auto" }, oneLine(description, 500))
      : null;
    const text = h("span", { class: "loopat-option-text" }, isolated(oneLine(label)), about);
    return h("label", { class: "loopat-option" }, box, text);
  }

  #chooseFreeText() {
    if (this.#multi || this.#freeText.value.trim() === "") return;
    for (const box of this.#boxes) box.checked = false;
  }
}
