/**
 * The chat, as nodes: head, transcript, messages on their way, composer, foot.
 *
 * It draws at most once a frame, whatever the rate of events. The transcript stays at its end
 * while a person is there, and does not move under somebody who scrolled up.
 */
import { Announcer } from "./live_region.js";
import { Composer } from "./composer.js";
import { h, setText } from "../dom/elements.js";
import { Footer } from "./footer.js";
import { onceAFrame } from "../dom/animation_frame.js";
import { Header } from "./header.js";
import { keepKeys } from "../dom/keyboard.js";
import { OutboxView } from "./outbox_view.js";
import { TurnView } from "./turn_view.js";
import { UploadsView } from "./uploads_view.js";

const MOST_TURNS = 100; // in the page; older ones come back with "Show earlier messages"
const NEAR = 40; // px from the end that count as being there

export class ChatView {
  #session;
  #turns = new Map();
  #frame = onceAFrame(() => this.#draw());
  #header = new Header();
  #footer = new Footer();
  #announcer = new Announcer();
  #composer;
  #outbox;
  #uploads;
  #list = h("div", { class: "loopat-turns" });
  #earlier;
  #empty;
  #notice;
  #log;
  #stays = true;
  #giveKeysBack;

  /** @param {import("../state/session.js").Session} session */
  constructor(session) {
    this.#session = session;
    this.#uploads = new UploadsView(
      session.uploads,
      (name) => this.#composer.mention(name),
      (text) => this.#composer.say(text),
    );
    const actions = {
      send: (text, mode) => this.#send(text, mode),
      stop: () => this.#stop(),
      history: () => this.#written(),
      files: (transfer) => this.#uploads.take(transfer),
    };
    this.#composer = new Composer(actions, this.#uploads.button);
    this.#outbox = new OutboxView(session, (text) => this.#composer.restore(text));
    this.#earlier = h("button", {
      type: "button",
      class: "loopat-button loopat-earlier",
      hidden: true,
    });
    this.#earlier.textContent = "Show earlier messages";
    this.#earlier.addEventListener("click", () => this.#showEarlier());
    this.#empty = h("p", { class: "loopat-empty" });
    this.#notice = this.#makeNotice();
    this.#log = h("div", {
      class: "loopat-log",
      role: "log",
      "aria-live": "off",
      "aria-label": "Conversation",
      tabIndex: 0,
      on: { scroll: () => this.#scrolled() },
    });
    this.#log.append(this.#earlier, this.#empty, this.#list, this.#outbox.el);
    this.el = h("section", {
      class: "loopat loopat-chat",
      role: "region",
      "aria-label": "Loop chat",
    });
    this.el.append(this.#header.el, this.#log, this.#notice, this.#uploads.el, this.#composer.el);
    this.el.append(this.#footer.el, this.#announcer.el);
    this.#uploads.takeDrops(this.el);
    this.#listen();
    this.#giveKeysBack = keepKeys(this.el, (event) => this.#composer.key(event));
    this.#frame.ask();
  }

  /** Draw no more; the nodes are somebody else's to remove. */
  close() {
    this.#giveKeysBack();
    this.#frame.stop();
    this.#footer.stop();
    for (const [name, listener] of this.#listeners) {
      this.#session.removeEventListener(name, listener);
    }
  }

  #listeners = [
    ["change", () => this.#frame.ask()],
    ["earlier", () => this.#putEarlier()],
    ["reset", () => this.#reset()],
  ];

  #listen() {
    for (const [name, listener] of this.#listeners) this.#session.addEventListener(name, listener);
  }

  #makeNotice() {
    const again = h("button", { type: "button", class: "loopat-button" }, "Try again");
    again.addEventListener("click", () => this.#session.start());
    const text = h("span", { class: "loopat-notice-text" });
    return h("div", { class: "loopat-notice", role: "alert", hidden: true }, text, again);
  }

  // ------------------------------------------------------------------ drawing

  #draw() {
    const { transcript } = this.#session;
    let again = false;
    const changed = [...transcript.changed];
    transcript.changed.clear();
    for (const id of changed) {
      const turn = transcript.turns.get(id);
      if (turn === undefined) continue;
      if (this.#viewOf(turn).update()) {
        transcript.changed.add(id); // it had more to show than fits into a frame's time
        again = true;
      }
      if (!this.#session.past.has(id)) this.#announcer.follow(turn);
    }
    this.#trim();
    this.#drawRest();
    // Where nothing but "later" was said, nothing moved, and measuring would cost a layout.
    if (this.#stays && !again) this.#log.scrollTop = this.#log.scrollHeight;
    return again;
  }

  #viewOf(turn) {
    const known = this.#turns.get(turn.id);
    if (known !== undefined) return known;
    const view = new TurnView(turn, this.#session, () => this.#composer.focus());
    this.#turns.set(turn.id, view);
    this.#list.append(view.el);
    return view;
  }

  #drawRest() {
    const session = this.#session;
    const newest = [...session.transcript.turns.values()].at(-1) ?? null;
    this.#header.update(session);
    this.#footer.update(newest);
    this.#outbox.update();
    const reason = closed(session);
    this.#composer.update({ busy: session.busy, closed: reason });
    this.#uploads.update(reason !== "");
    this.#earlier.hidden = !session.hasEarlier;
    this.#drawNotice();
    this.#drawEmpty();
    this.el.dataset.link = session.link;
    this.el.dataset.busy = String(session.busy);
  }

  #drawNotice() {
    const { link, linkMessage } = this.#session;
    setText(this.#notice.firstElementChild, linkMessage);
    this.#notice.hidden = linkMessage === "";
    this.#notice.lastElementChild.hidden = link !== "failed";
  }

  #drawEmpty() {
    const { link, transcript } = this.#session;
    const nothing = link === "live" && transcript.turns.size === 0 && this.#outbox.isEmpty;
    this.#empty.hidden = !nothing;
    setText(
      this.#empty,
      nothing ? "Nothing has been said yet. Write the first message below." : "",
    );
  }

  #trim() {
    if (this.#turns.size <= MOST_TURNS || !this.#stays) return;
    for (const id of this.#session.leaveOut(MOST_TURNS / 2)) {
      this.#turns.get(id)?.el.remove();
      this.#turns.delete(id);
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    this.#stays = scrollHeight - scrollTop - clientHeight < NEAR;
  }

  // ------------------------------------------------------------------ earlier turns

  async #showEarlier() {
    this.#earlier.disabled = true;
    try {
      await this.#session.showEarlier();
      setText(this.#earlier, "Show earlier messages");
    } catch (error) {
      setText(this.#earlier, `Not loaded: ${error.message} Try again`);
    } finally {
      this.#earlier.disabled = false;
    }
  }

  #putEarlier() {
    const first = this.#list.firstElementChild;
    const height = this.#log.scrollHeight;
    for (const turn of this.#session.transcript.turns.values()) {
      if (this.#turns.has(turn.id)) break;
      const view = this.#viewOf(turn);
      view.update();
      this.#list.insertBefore(view.el, first);
    }
    this.#stays = false;
    this.#log.scrollTop += this.#log.scrollHeight - height;
    this.#frame.ask();
  }

  #reset() {
    this.#turns.clear();
    this.#list.replaceChildren();
    this.#frame.ask();
  }

  // ------------------------------------------------------------------ what a person does

  #send(text, mode) {
    this.#stays = true;
    this.#session.uploads.clear();
    this.#session.outbox.send(text, mode);
  }

  async #stop() {
    try {
      await this.#session.interrupt();
    } catch (error) {
      this.#session.say(`Not stopped: ${error.message}`);
    }
  }

  /** What was sent in this loop, newest first. */
  #written() {
    const turns = [...this.#session.transcript.turns.values()].map((turn) => turn.content);
    const waiting = this.#session.queue.map((row) => row.content);
    return [...turns, ...waiting].filter((text) => text !== null).reverse();
  }
}

function closed({ loop, link }) {
  if (loop?.archived) return "This loop is archived: it can be read, and takes no messages.";
  return link === "failed" ? "Not connected: nothing can be sent now." : "";
}
