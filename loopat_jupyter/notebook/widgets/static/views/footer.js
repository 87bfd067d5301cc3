/**
 * The chat's footer: the state and duration of the newest turn, and its token usage.
 */
import { h, setText } from "../dom/elements.js";
import { isOpen } from "../state/transcript.js";

/** @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {object | null} usage */
export function usageText(usage) {
  if (usage === null) return "";
  const cached = usage.cache_read_tokens ?? 0;
  const input = (usage.input_tokens ?? 0) + cached + (usage.cache_write_tokens ?? 0);
  const parts = [`${formatTokens(input)} in`, `${formatTokens(usage.output_tokens ?? 0)} out`];
  if (cached > 0) parts.push(`${formatTokens(cached)} cached`);
  if (typeof usage.cost_usd === "number") parts.push(`$${usage.cost_usd.toFixed(4)}`);
  return parts.join(" · ");
}

function formatTokens(tokens) {
  if (tokens < 1000) return String(tokens);
  return tokens < 1e6 ? `${(tokens / 1000).toFixed(1)}k` : `${(tokens / 1e6).toFixed(1)}M`;
}

export class Footer {
  #doing = h("span", { class: "loopat-doing" });
  #usage = h("span", { class: "loopat-usage" });
  #timer = null;
  #turn = null;

  constructor() {
    this.el = h("footer", { class: "loopat-foot" }, this.#doing, this.#usage);
  }

  /** @param {import("../state/transcript.js").Turn | null} turn the newest */
  update(turn) {
    this.#turn = turn;
    this.#tick();
    const ticks = turn !== null && isOpen(turn);
    if (ticks && this.#timer === null) this.#timer = setInterval(() => this.#tick(), 1000);
    if (!ticks) this.stop();
    const usage = usageText(turn?.usage ?? null);
    setText(this.#usage, usage);
    this.#usage.title = usage && "Tokens of the last turn";
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #tick() {
    setText(this.#doing, this.#turn === null ? "" : statusText(this.#turn));
  }
}

const STATES = {
  running: "Working",
  waiting: "Waiting for you",
  done: "Done",
  interrupted: "Stopped",
  error: "Failed",
};

function statusText({ state, startedAt, endedAt }) {
  const label = STATES[state] ?? state;
  const until = state === "running" || state === "waiting" ? Date.now() : endedAt;
  if (startedAt === null || until === null) return label;
  return `${label} · ${duration(until - startedAt)}`;
}
