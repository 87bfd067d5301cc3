/**
 * The turns of a loop, built from its events. No DOM, no clock: times are arguments.
 *
 * Invariants: an event is applied once (by `seq`), in order; a turn's parts are only appended and
 * keep their index, so a view can update by comparing lengths; the ids of changed turns are in
 * `changed` until the view has drawn them.
 *
 * @typedef {{kind: "text" | "thinking", text: string}} TextPart
 * @typedef {{kind: "tool", id: string, tool: string, summary: string, ok: boolean | null}} ToolPart
 * @typedef {{kind: "choice", request: object, resolved: object | null}} ChoicePart
 * @typedef {TextPart | ToolPart | ChoicePart} Part
 *
 * @typedef {object} Turn
 * @property {string} id
 * @property {"running" | "waiting" | "done" | "interrupted" | "error"} state
 * @property {string | null} content what the user wrote; null where only a snapshot is known
 * @property {Part[]} parts
 * @property {{code: string, message: string} | null} error
 * @property {object | null} usage
 * @property {boolean} coldStart
 * @property {number | null} startedAt ms, where the beginning is known
 * @property {number | null} endedAt ms, where the end was received as it happened
 */

export class Transcript {
  /** @type {Map<string, Turn>} in the order in which they began */
  turns = new Map();
  /** @type {Set<string>} ids of turns that changed since the view looked */
  changed = new Set();
  /** @type {number | null} sequence number of the newest event */
  cursor = null;
  #choices = new Map();

  /**
   * @param {import("../connection/sse.js").LoopEvent} event
   * @param {number | null} [at] ms, when it happened; null for what is replayed
   * @returns {boolean} whether it was new
   */
  apply(event, at = null) {
    if (event.seq !== null) {
      if (this.cursor !== null && event.seq <= this.cursor) return false;
      this.cursor = event.seq;
    }
    const turnId = event.data.turn_id;
    const handler = HANDLERS[event.name];
    if (handler === undefined || typeof turnId !== "string") return false;
    const turn = this.#turn(turnId);
    handler(turn, event.data, at, this.#choices);
    this.changed.add(turnId);
    return true;
  }

  /** The turn that is under way. @returns {Turn | null} */
  get current() {
    const newest = [...this.turns.values()].at(-1) ?? null;
    return newest !== null && isOpen(newest) ? newest : null;
  }

  /** Forget the oldest turns but `keep`; their ids. @param {number} keep */
  dropOldest(keep) {
    const ids = [...this.turns.keys()].slice(0, Math.max(0, this.turns.size - keep));
    for (const id of ids) this.turns.delete(id);
    return ids;
  }

  #turn(id) {
    const known = this.turns.get(id);
    if (known !== undefined) return known;
    const turn = {
      id,
      state: "running",
      content: null,
      parts: [],
      error: null,
      usage: null,
      coldStart: false,
      startedAt: null,
      endedAt: null,
    };
    this.turns.set(id, turn);
    return turn;
  }
}

/** @param {Turn} turn */
export function isOpen(turn) {
  return turn.state === "running" || turn.state === "waiting";
}

/** All visible text of the turn. @param {Turn} turn */
export function visibleText(turn) {
  return turn.parts
    .filter((part) => part.kind === "text")
    .map((part) => part.text)
    .join("");
}

/** The choice that the turn waits for. @param {Turn} turn @returns {ChoicePart | null} */
export function pendingChoice(turn) {
  return turn.parts.find((part) => part.kind === "choice" && part.resolved === null) ?? null;
}

const HANDLERS = {
  started(turn, data, at) {
    turn.content = data.content;
    turn.coldStart = data.cold_start === true;
    turn.startedAt = at;
  },
  snapshot(turn, data, at, choices) {
    // Only at the beginning, and only of a turn of which nothing is known yet.
    if (turn.parts.length > 0) return;
    appendText(turn, "text", data.assistant_text_so_far);
    if (data.choice) HANDLERS.requires_choice(turn, data.choice, at, choices);
  },
  assistant_delta(turn, data) {
    appendText(turn, "text", data.text);
  },
  thinking_delta(turn, data) {
    appendText(turn, "thinking", data.text);
  },
  tool_call(turn, data) {
    const { tool_use_id: id, tool, input_summary: summary = "" } = data;
    turn.parts.push({ kind: "tool", id, tool, summary, ok: null });
  },
  tool_result(turn, data) {
    const part = turn.parts.findLast((one) => one.kind === "tool" && one.id === data.tool_use_id);
    if (part !== undefined) part.ok = data.ok;
  },
  requires_choice(turn, data, at, choices) {
    const part = { kind: "choice", request: data, resolved: null };
    turn.parts.push(part);
    turn.state = "waiting";
    choices.set(data.choice_id, part);
  },
  choice_resolved(turn, data, at, choices) {
    const part = choices.get(data.choice_id);
    if (part !== undefined) part.resolved = data;
    choices.delete(data.choice_id);
    if (turn.state === "waiting" && pendingChoice(turn) === null) turn.state = "running";
  },
  done(turn, data, at) {
    endTurn(turn, "done", at);
    turn.usage = data.usage ?? null;
  },
  interrupted(turn, data, at) {
    endTurn(turn, "interrupted", at);
  },
  error(turn, data, at) {
    endTurn(turn, "error", at);
    turn.error = { code: data.code, message: data.message };
  },
};

function appendText(turn, kind, text) {
  if (!text) return;
  const last = turn.parts.at(-1);
  if (last?.kind === kind) last.text += text;
  else turn.parts.push({ kind, text });
}

function endTurn(turn, state, at) {
  turn.state = state;
  turn.endedAt = at;
}
