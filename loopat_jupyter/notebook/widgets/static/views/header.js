/**
 * The chat's header: the loop's title, its sandbox, and the state of the connection.
 */
import { h, isolated, setText } from "../dom/elements.js";
import { oneLine } from "../dom/text_sanitizer.js";

const LINKS = {
  connecting: "Connecting…",
  live: "Connected",
  reconnecting: "Reconnecting…",
  failed: "Not connected",
  stopped: "Disconnected",
};

export class Header {
  #title = isolated("", { class: "loopat-title" });
  #badge = h("span", { class: "loopat-badge", hidden: true });
  #archived = h("span", { class: "loopat-badge loopat-archived", hidden: true }, "archived");
  #link = h("span", { class: "loopat-link-text" });

  constructor() {
    const dot = h("span", { class: "loopat-dot", "aria-hidden": "true" });
    this.state = h("span", { class: "loopat-link", role: "status" }, dot, this.#link);
    this.el = h("header", { class: "loopat-head" });
    this.el.append(this.#title, this.#badge, this.#archived, this.state);
  }

  /** @param {import("../state/session.js").Session} session */
  update({ loop, connectionState, connectionMessage, viaKernel }) {
    this.state.dataset.link = connectionState;
    this.state.title = connectionMessage;
    const way = viaKernel && connectionState === "live" ? " through the kernel" : "";
    setText(this.#link, LINKS[connectionState] + way);
    if (loop === null) return;
    setText(this.#title, oneLine(loop.title));
    this.#archived.hidden = !loop.archived;
    this.#badge.hidden = !loop.sandbox;
    this.#showSandbox(loop.sandbox, loop.isolation);
  }

  #showSandbox(tier, isolation) {
    const isolates = isolation?.isolates;
    const label =
      isolates === false ? `${tier} · not isolated` : isolates ? `${tier} · isolated` : tier;
    setText(this.#badge, oneLine(String(label ?? "")));
    this.#badge.dataset.isolates = String(isolates ?? "unknown");
    const { enforced = [], gaps = [] } = isolation ?? {};
    const lines = ["Sandbox: what holds the agent in", ...enforced.map((one) => `✓ ${one}`)];
    if (gaps.length > 0) lines.push("Not held:", ...gaps.map((one) => `– ${one}`));
    this.#badge.title = lines.join("\n");
  }
}
