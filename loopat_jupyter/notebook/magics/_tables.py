"""The small tables that ``%loop`` shows, as Markdown. Titles are escaped: anybody may write one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loopat_jupyter.client import Loop, Message, Usage
from loopat_jupyter.transcript.escape import escape_html

LISTED = 50


def loops_table(loops: Sequence[Loop], current: str | None) -> str:
    """The loops, newest first; the current one is marked."""
    if not loops:
        return "No loops yet: `%loop new TITLE` makes one."
    rows = [
        [
            "→" if loop.id == current else "",
            escape_html(loop.title, 60) + (" *(archived)*" if loop.archived else ""),
            f"`{loop.id}`",
            f"{loop.info.created_at:%Y-%m-%d %H:%M}",
        ]
        for loop in loops[:LISTED]
    ]
    more = len(loops) - LISTED
    return _table(["", "loop", "id", "created"], rows) + (f"\n\n… {more} more" if more > 0 else "")


def status_table(loop: Loop) -> str:
    """The state of one loop. ``loop`` was just refreshed."""
    info, turn = loop.info, loop.info.current_turn
    state = "idle"
    if loop.archived:
        state = "archived"
    elif turn is not None:
        state = "waits for a person" if turn.pending_choice_id else "running a turn"
    rows = [
        ["state", f"{state}, {info.queue_depth} queued" if info.queue_depth else state],
        ["turns", str(info.turn_count)],
        ["engine", escape_html(info.engine or "")],
        ["sandbox", escape_html(info.sandbox or "")],
        ["id", f"`{loop.id}`"],
    ]
    return _table([escape_html(loop.title, 80), ""], rows)


def cost_table(title: str, history: Iterable[Message]) -> str:
    """The sums of all turns; money where the server knows prices."""
    usages = [message.usage for message in history if message.usage is not None]
    counts = {
        "turns": len(usages),
        "input tokens": sum(u.input_tokens for u in usages),
        "output tokens": sum(u.output_tokens for u in usages),
        "cache, read": sum(u.cache_read_tokens for u in usages),
        "cache, written": sum(u.cache_write_tokens for u in usages),
    }
    rows = [[name, f"{count:,}"] for name, count in counts.items()]
    return _table([escape_html(title, 80), ""], [*rows, ["cost", _money(usages)]])


def _money(usages: Sequence[Usage]) -> str:
    priced = [u.cost_usd for u in usages if u.cost_usd is not None]
    if not priced:
        return "not known: this model has no price here"
    unknown = len(usages) - len(priced)
    return f"${sum(priced):.4f}" + (f", and {unknown} turns without a price" if unknown else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
