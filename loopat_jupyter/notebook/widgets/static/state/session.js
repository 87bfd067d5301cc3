/**
 * The state of one chat: the newest part of the history, queued messages, sent messages.
 *
 * It loads the newest page of the history and then every event after it. Views listen for its
 * events and change it through its methods only. `stop` ends all its requests and timers.
 */
import { LoopConnection } from "../connection/loop_connection.js";
import { Outbox } from "./outbox.js";
import { ApiError } from "../connection/api_error.js";
import { Transcript } from "./transcript.js";
import { Uploads } from "./uploads.js";

const PAGE_ROWS = 40; // rows of history at a time: twenty turns
const POLL_INTERVAL = 10_000; // ms between requests of the loop's state where no pings come

export class Session extends LoopConnection {
  transcript = new Transcript();
  /** Rows of accepted messages whose turn has not begun, oldest first. */
  queue = [];
  /** Tool calls of the history: `tool_use_id` -> `{input, result, ok}`. */
  toolCalls = new Map();
  /** Ids of turns that had ended before this widget connected. */
  pastTurns = new Set();
  outbox = new Outbox(this);
  uploads = new Uploads(this);

  #loaded = false;
  #earlier = null;
  #refreshing = null;
  #pollTimer = null;

  get hasEarlier() {
    return this.#earlier !== null;
  }

  /** Show a sentence until the connection's state changes. @param {string} message */
  showMessage(message) {
    this.connectionMessage = message;
    this.notify();
  }

  /** Whether a turn runs or waits, as far as known. */
  get busy() {
    return this.transcript.current !== null;
  }

  // ------------------------------------------------------------------ events

  async onConnected() {
    clearInterval(this.#pollTimer);
    // Each ping of the server is a reason to refresh. The kernel does not forward pings.
    if (this.viaKernel) this.#pollTimer = setInterval(() => this.refreshSoon(), POLL_INTERVAL);
    if (this.#loaded) await this.refresh();
    else await this.#load();
  }

  stop() {
    clearInterval(this.#pollTimer);
    super.stop();
  }

  get cursor() {
    return this.transcript.cursor;
  }

  onEvents(batch) {
    for (const event of batch) this.#applyEvent(event);
  }

  resetState() {
    this.transcript = new Transcript();
    this.toolCalls.clear();
    this.pastTurns.clear();
    this.#loaded = false;
    this.dispatchEvent(new Event("reset"));
  }

  async #load() {
    const page = await this.transport.messages({ limit: PAGE_ROWS, order: "desc" });
    this.#earlier = page.has_more ? page.last_id : null;
    this.#storeToolCalls(page.data);
    this.#markPastTurns(page.data);
    this.queue = queued(page.data);
    const begun = page.data.map((row) => row.seq).filter((seq) => typeof seq === "number");
    this.transcript.cursor = page.has_more && begun.length > 0 ? Math.min(...begun) - 1 : 0;
    this.#loaded = true;
  }

  #applyEvent(event) {
    const turnId = event.data.turn_id;
    this.transcript.apply(event, this.pastTurns.has(turnId) ? null : Date.now());
    if (event.name === "started" || event.name === "interrupted") {
      this.#adoptContent(turnId);
      this.queue = this.queue.filter((row) => row.turn_id !== turnId);
      this.outbox.removeTurn(turnId);
    }
    if (event.name === "started") this.#adoptStart(turnId);
    const ended = ["done", "interrupted", "error"].includes(event.name);
    if ((ended && !this.pastTurns.has(turnId)) || event.name === "ping") this.refreshSoon();
  }

  /** A queued message that is cancelled has no `started` event: its text is in the queue. */
  #adoptContent(turnId) {
    const turn = this.transcript.turns.get(turnId);
    const row = this.queue.find((one) => one.turn_id === turnId);
    if (turn && row) turn.content ??= row.content;
  }

  /** The start time of a turn that was running already is in the loop's state. */
  #adoptStart(turnId) {
    const current = this.loop?.current_turn;
    const turn = this.transcript.turns.get(turnId);
    if (current?.turn_id === turnId && current.started_at && turn) {
      turn.startedAt = Math.min(Date.parse(current.started_at), Date.now());
    }
  }

  /** Refresh in the background; calls during a refresh are answered by the same one. */
  refreshSoon() {
    this.#refreshing ??= Promise.resolve()
      .then(() => this.refresh())
      .catch((error) => {
        if (!(error instanceof ApiError)) throw error; // the stream will notice as well
      })
      .finally(() => (this.#refreshing = null));
  }

  /** Request the loop's state, and the queue where there is one. @throws {ApiError} */
  async refresh() {
    const loop = await this.transport.loop();
    this.loop = loop;
    if (loop.queue_depth > 0 || this.queue.length > 0) {
      const page = await this.transport.messages({ limit: PAGE_ROWS, order: "desc" });
      this.#storeToolCalls(page.data);
      this.queue = queued(page.data);
    }
    this.notify();
  }

  #storeToolCalls(rows) {
    for (const row of rows) {
      for (const call of row.tool_calls) this.toolCalls.set(call.tool_use_id, call);
    }
  }

  /** Turns that had ended before this widget connected are neither announced nor timed. */
  #markPastTurns(rows) {
    for (const row of rows) {
      if (!["queued", "running", "waiting"].includes(row.status)) this.pastTurns.add(row.turn_id);
    }
  }

  /**
   * A tool call with its whole input, and its result where there is one.
   * @param {import("./transcript.js").Turn} turn
   * @param {string} toolUseId
   * @returns {Promise<{input: any, result: string, ok: boolean | null} | null>}
   */
  async loadToolCall(turn, toolUseId) {
    const known = this.toolCalls.get(toolUseId);
    if (known !== undefined && known.ok !== null) return known;
    let after;
    do {
      const page = await this.transport.messages({ limit: 10, order: "desc", after });
      this.#storeToolCalls(page.data);
      if (page.data.some((row) => row.turn_id === turn.id)) break;
      after = page.has_more ? page.last_id : undefined;
    } while (after !== undefined);
    return this.toolCalls.get(toolUseId) ?? null;
  }

  /** Load one more page of history before the oldest turn. @throws {ApiError} */
  async loadEarlier() {
    if (this.#earlier === null) return;
    const query = { limit: PAGE_ROWS, order: "desc", after: this.#earlier };
    const page = await this.transport.messages(query);
    this.#storeToolCalls(page.data);
    this.#markPastTurns(page.data);
    const begun = page.data.map((row) => row.seq).filter((seq) => typeof seq === "number");
    const from = page.has_more && begun.length > 0 ? Math.min(...begun) - 1 : 0;
    const older = await this.#replayTurns(from, this.transcript);
    this.transcript.turns = new Map([...older.turns, ...this.transcript.turns]);
    this.#earlier = page.has_more ? page.last_id : null;
    this.dispatchEvent(new Event("earlier"));
  }

  /** The turns that began after `from` and are not in `shown`. */
  async #replayTurns(from, shown) {
    const older = new Transcript();
    older.cursor = from;
    const stop = new AbortController();
    try {
      for await (const batch of this.transport.events(from, stop.signal)) {
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
   * Drop the oldest turns, down to `keep`; `loadEarlier` loads them again.
   * @param {number} keep
   * @returns {string[]} the ids of the dropped turns
   */
  dropOldestTurns(keep) {
    const gone = this.transcript.dropOldest(keep);
    const oldest = this.transcript.turns.keys().next().value;
    if (gone.length > 0) this.#earlier = rowId(oldest);
    return gone;
  }

  // ------------------------------------------------------------------ actions

  /** @param {string} choiceId @param {object} body the contract's @throws {ApiError} */
  async resolve(choiceId, body) {
    await this.transport.resolve(choiceId, body);
  }

  /** End the running turn. @throws {ApiError} */
  async interrupt() {
    await this.transport.interrupt();
  }
}

/** The id of the row that holds a turn's message, as the history names its rows. */
function rowId(turnId) {
  return `msg_${turnId.replace(/^turn_/, "")}_user`;
}

function queued(rows) {
  return rows.filter((row) => row.role === "user" && row.status === "queued").reverse();
}
