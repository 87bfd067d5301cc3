/**
 * The chat: header, transcript, messages being sent, composer, footer.
 *
 * It draws at most once a frame, whatever the rate of events. While the transcript is scrolled to
 * its end it stays there; when the user has scrolled up it does not move.
 */
import { LiveRegion } from "./live_region.js";
import { Composer } from "./composer.js";
import { h, setText } from "../dom/elements.js";
import { Footer } from "./footer.js";
import { oncePerFrame } from "../dom/animation_frame.js";
import { Header } from "./header.js";
import { captureKeys } from "../dom/keyboard.js";
import { OutboxView } from "./outbox_view.js";
import { TurnView } from "./turn_view.js";
import { UploadsView } from "./uploads_view.js";

const MAX_TURNS = 100; // in the page; older ones come back with "Show earlier messages"
const END_TOLERANCE = 40; // px from the end within which it counts as scrolled to the end

export class ChatView {
  #session;
  #turns = new Map();
  #frame = oncePerFrame(() => this.#draw());
  #header = new Header();
  #footer = new Footer();
  #liveRegion = new LiveRegion();
  #composer;
  #outbox;
  #uploads;
  #list = h("div", { class: "loopat-turns" });
  #earlier;
  #empty;
  #notice;
  #log;
  #atEnd = true;
  #releaseKeys;

  /** @param {import("../state/session.js").Session} session */
  constructor(session) {
    this.#session = session;
    this.#uploads = new UploadsView(
      session.uploads,
      (name) => this.#composer.mention(name),
      (text) => this.#composer.showNote(text),
    );
    const actions = {
      send: (text, mode) => this.#send(text, mode),
      stop: () => this.#stop(),
      history: () => this.#sentMessages(),
      files: (transfer) => this.#uploads.upload(transfer),
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
    this.el.append(this.#footer.el, this.#liveRegion.el);
    this.#uploads.acceptDrops(this.el);
    this.#listen();
    this.#releaseKeys = captureKeys(this.el, (event) => this.#composer.key(event));
    this.#frame.request();
  }

  /** Stop drawing and listening. The caller removes the nodes. */
  close() {
    this.#releaseKeys();
    this.#frame.cancel();
    this.#footer.stop();
    for (const [name, listener] of this.#listeners) {
      this.#session.removeEventListener(name, listener);
    }
  }

  #listeners = [
    ["change", () => this.#frame.request()],
    ["earlier", () => this.#insertEarlier()],
    ["reset", () => this.#reset()],
  ];

  #listen() {
    for (const [name, listener] of this.#listeners) this.#session.addEventListener(name, listener);
  }

  #makeNotice() {
    const retry = h("button", { type: "button", class: "loopat-button" }, "Try again");
    retry.addEventListener("click", () => this.#session.start());
    const text = h("span", { class: "loopat-notice-text" });
    return h("div", { class: "loopat-notice", role: "alert", hidden: true }, text, retry);
  }

  // ------------------------------------------------------------------ drawing

  #draw() {
    const { transcript } = this.#session;
    let unfinished = false;
    const changed = [...transcript.changed];
    transcript.changed.clear();
    for (const id of changed) {
      const turn = transcript.turns.get(id);
      if (turn === undefined) continue;
      if (this.#viewOf(turn).update()) {
        transcript.changed.add(id); // it has more to draw than fits into one frame
        unfinished = true;
      }
      if (!this.#session.pastTurns.has(id)) this.#liveRegion.announce(turn);
    }
    this.#trim();
    this.#drawSurroundings();
    // While a turn still has more to draw, skip this: reading scrollHeight forces a layout.
    if (this.#atEnd && !unfinished) this.#log.scrollTop = this.#log.scrollHeight;
    return unfinished;
  }

  #viewOf(turn) {
    const known = this.#turns.get(turn.id);
    if (known !== undefined) return known;
    const view = new TurnView(turn, this.#session, () => this.#composer.focus());
    this.#turns.set(turn.id, view);
    this.#list.append(view.el);
    return view;
  }

  #drawSurroundings() {
    const session = this.#session;
    const newest = [...session.transcript.turns.values()].at(-1) ?? null;
    this.#header.update(session);
    this.#footer.update(newest);
    this.#outbox.update();
    const reason = closedReason(session);
    this.#composer.update({ busy: session.busy, closed: reason });
    this.#uploads.update(reason !== "");
    this.#earlier.hidden = !session.hasEarlier;
    this.#drawNotice();
    this.#drawEmpty();
    this.el.dataset.link = session.connectionState;
    this.el.dataset.busy = String(session.busy);
  }

  #drawNotice() {
    const { connectionState, connectionMessage } = this.#session;
    setText(this.#notice.firstElementChild, connectionMessage);
    this.#notice.hidden = connectionMessage === "";
    this.#notice.lastElementChild.hidden = connectionState !== "failed";
  }

  #drawEmpty() {
    const { connectionState, transcript } = this.#session;
    const isLive = connectionState === "live";
    const isEmpty = isLive && transcript.turns.size === 0 && this.#outbox.isEmpty;
    this.#empty.hidden = !isEmpty;
    setText(
      this.#empty,
      isEmpty ? "Nothing has been said yet. Write the first message below." : "",
    );
  }

  #trim() {
    if (this.#turns.size <= MAX_TURNS || !this.#atEnd) return;
    for (const id of this.#session.dropOldestTurns(MAX_TURNS / 2)) {
      this.#turns.get(id)?.el.remove();
      this.#turns.delete(id);
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < END_TOLERANCE;
  }

  // ------------------------------------------------------------------ earlier turns

  async #showEarlier() {
    this.#earlier.disabled = true;
    try {
      await this.#session.loadEarlier();
      setText(this.#earlier, "Show earlier messages");
    } catch (error) {
      setText(this.#earlier, `Not loaded: ${error.message} Try again`);
    } finally {
      this.#earlier.disabled = false;
    }
  }

  #insertEarlier() {
    const first = this.#list.firstElementChild;
    const height = this.#log.scrollHeight;
    for (const turn of this.#session.transcript.turns.values()) {
      if (this.#turns.has(turn.id)) break;
      const view = this.#viewOf(turn);
      view.update();
      this.#list.insertBefore(view.el, first);
    }
    this.#atEnd = false;
    this.#log.scrollTop += this.#log.scrollHeight - height;
    this.#frame.request();
  }

  #reset() {
    this.#turns.clear();
    this.#list.replaceChildren();
    this.#frame.request();
  }

  // ------------------------------------------------------------------ actions

  #send(text, mode) {
    this.#atEnd = true;
    this.#session.uploads.clear();
    this.#session.outbox.send(text, mode);
  }

  async #stop() {
    try {
      await this.#session.interrupt();
    } catch (error) {
      this.#session.showMessage(`Not stopped: ${error.message}`);
    }
  }

  /** The messages sent in this loop, newest first. */
  #sentMessages() {
    const turns = [...this.#session.transcript.turns.values()].map((turn) => turn.content);
    const waiting = this.#session.queue.map((row) => row.content);
    return [...turns, ...waiting].filter((text) => text !== null).reverse();
  }
}

/** Why nothing can be sent, or "". */
function closedReason({ loop, connectionState }) {
  if (loop?.archived) return "This loop is archived: it can be read, and takes no messages.";
  return connectionState === "failed" ? "Not connected: nothing can be sent now." : "";
}
