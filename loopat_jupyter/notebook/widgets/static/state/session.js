/**
 * What one chat knows of its loop: the newest part of the history, what is queued, what was sent.
 *
 * It begins with the newest page of the history and follows the events from there, without a gap.
 * Views listen; they change nothing here but through the methods. Everything ends with `stop`.
 */
import { Link } from "../connection/loop_connection.js";
import { Outbox } from "./outbox.js";
import { Refusal } from "../connection/api_error.js";
import { Transcript } from "./transcript.js";
import { Uploads } from "./uploads.js";

const PAGE = 40; // rows of history at a time: twenty turns
const PULSE = 10_000; // ms between looks at the loop's state where no pings come

export class Session extends Link {
  transcript = new Transcript();
  /** Rows of accepted messages whose turn has not begun, oldest first. */
  queue = [];
  /** Tool calls as the history tells them: `tool_use_id` -> `{input, result, ok}`. */
  details = new Map();
  /** Ids of turns that had ended before this widget looked. */
  past = new Set();
  outbox = new Outbox(this);
  uploads = new Uploads(this);

  #loaded = false;
  #earlier = null;
  #refreshing = null;
  #pulse = null;

  get hasEarlier() {
    return this.#earlier !== null;
  }

  /** Say something about the link, until it changes. @param {string} message */
  say(message) {
    this.linkMessage = message;
    this.touch();
  }

  /** Whether a turn runs or waits, as far as known. */
  get busy() {
    return this.transcript.current !== null;
  }

  // ------------------------------------------------------------------ what happened

  async connected() {
    clearInterval(this.#pulse);
    // Straight from the server pings come, and each is a reason to look; not through the kernel.
    if (this.viaKernel) this.#pulse = setInterval(() => this.refreshSoon(), PULSE);
    if (this.#loaded) await this.refresh();
    else await this.#load();
  }

  stop() {
    clearInterval(this.#pulse);
    super.stop();
  }

  get cursor() {
    return this.transcript.cursor;
  }

  take(batch) {
    for (const event of batch) this.#take(event);
  }

  forget() {
    this.transcript = new Transcript();
    this.details.clear();
    this.past.clear();
    this.#loaded = false;
    this.dispatchEvent(new Event("reset"));
  }

  async #load() {
    const page = await this.port.messages({ limit: PAGE, order: "desc" });
    this.#earlier = page.has_more ? page.last_id : null;
    this.#learn(page.data);
    this.#markPast(page.data);
    this.queue = queued(page.data);
    const begun = page.data.map((row) => row.seq).filter((seq) => typeof seq === "number");
    this.transcript.cursor = page.has_more && begun.length > 0 ? Math.min(...begun) - 1 : 0;
    this.#loaded = true;
  }

  #take(event) {
    const turnId = event.data.turn_id;
    this.transcript.apply(event, this.past.has(turnId) ? null : Date.now());
    if (event.name === "started" || event.name === "interrupted") {
      this.#adoptContent(turnId);
      this.queue = this.queue.filter((row) => row.turn_id !== turnId);
      this.outbox.forget(turnId);
    }
    if (event.name === "started") this.#adoptStart(turnId);
    const ended = ["done", "interrupted", "error"].includes(event.name);
    if ((ended && !this.past.has(turnId)) || event.name === "ping") this.refreshSoon();
  }

  /** A queued message that is cancelled has no `started`; what it said is known from the queue. */
  #adoptContent(turnId) {
    const turn = this.transcript.turns.get(turnId);
    const row = this.queue.find((one) => one.turn_id === turnId);
    if (turn && row) turn.content ??= row.content;
  }

  /** Of a turn that ran before we came, the server knows since when. */
  #adoptStart(turnId) {
    const current = this.loop?.current_turn;
    const turn = this.transcript.turns.get(turnId);
    if (current?.turn_id === turnId && current.started_at && turn) {
      turn.startedAt = Math.min(Date.parse(current.started_at), Date.now());
    }
  }

  /** Ask for the loop's state anew, and for what is queued; several wishes are one request. */
  refreshSoon() {
    this.#refreshing ??= Promise.resolve()
      .then(() => this.refresh())
      .catch((error) => {
        if (!(error instanceof Refusal)) throw error; // the stream will notice as well
      })
      .finally(() => (this.#refreshing = null));
  }

  async refresh() {
    const loop = await this.port.loop();
    this.loop = loop;
    if (loop.queue_depth > 0 || this.queue.length > 0) {
      const page = await this.port.messages({ limit: PAGE, order: "desc" });
      this.#learn(page.data);
      this.queue = queued(page.data);
    }
    this.touch();
  }

  #learn(rows) {
    for (const row of rows) {
      for (const call of row.tool_calls) this.details.set(call.tool_use_id, call);
    }
  }

  /** What had ended before this widget looked is neither announced nor timed. */
  #markPast(rows) {
    for (const row of rows) {
      if (!["queued", "running", "waiting"].includes(row.status)) this.past.add(row.turn_id);
    }
  }

  /**
   * A tool call with its whole input and its result, as far as there is one.
   * @param {import("./transcript.js").Turn} turn
   * @param {string} toolUseId
   * @returns {Promise<{input: any, result: string, ok: boolean | null} | null>}
   */
  async detail(turn, toolUseId) {
    const known = this.details.get(toolUseId);
    if (known !== undefined && known.ok !== null) return known;
    let after;
    do {
      const page = await this.port.messages({ limit: 10, order: "desc", after });
      this.#learn(page.data);
      if (page.data.some((row) => row.turn_id === turn.id)) break;
      after = page.has_more ? page.last_id : undefined;
    } while (after !== undefined);
    return this.details.get(toolUseId) ?? null;
  }

  /** Put one more page of history before what is there. @throws {Refusal} */
  async showEarlier() {
    if (this.#earlier === null) return;
    const page = await this.port.messages({ limit: PAGE, order: "desc", after: this.#earlier });
    this.#learn(page.data);
    this.#markPast(page.data);
    const begun = page.data.map((row) => row.seq).filter((seq) => typeof seq === "number");
    const from = page.has_more && begun.length > 0 ? Math.min(...begun) - 1 : 0;
    const older = await this.#replay(from, this.transcript);
    this.transcript.turns = new Map([...older.turns, ...this.transcript.turns]);
    this.#earlier = page.has_more ? page.last_id : null;
    this.dispatchEvent(new Event("earlier"));
  }

  /** The turns that began after `from` and are not in `shown`. */
  async #replay(from, shown) {
    const older = new Transcript();
    older.cursor = from;
    const stop = new AbortController();
    try {
      for await (const batch of this.port.events(from, stop.signal)) {
        for (const event of batch) {
          if (shown.turns.has(event.data.turn_id)) return older;
          if (event.seq !== null) older.apply(event);
        }
      }
    } finally {
      stop.abort();
    }
    return older;
  }

  /**
   * Leave the oldest turns out, down to `keep`; they can be had again with `showEarlier`.
   * @param {number} keep
   * @returns {string[]} the ids of those left out
   */
  leaveOut(keep) {
    const gone = this.transcript.dropOldest(keep);
    const oldest = this.transcript.turns.keys().next().value;
    if (gone.length > 0) this.#earlier = rowId(oldest);
    return gone;
  }

  // ------------------------------------------------------------------ what a person does

  /** @param {string} choiceId @param {object} body the contract's @throws {Refusal} */
  async resolve(choiceId, body) {
    await this.port.resolve(choiceId, body);
  }

  /** End the running turn. @throws {Refusal} */
  async interrupt() {
    await this.port.interrupt();
  }
}

/** The id of the row that holds a turn's message, as the history names its rows. */
function rowId(turnId) {
  return `msg_${turnId.replace(/^turn_/, "")}_user`;
}

function queued(rows) {
  return rows.filter((row) => row.role === "user" && row.status === "queued").reverse();
}
