"""The words of a transcript that nobody in the loop wrote: headings, choices, outcomes, endings.

Markdown, the same in documents and notebooks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .escape import code_span, escape_html, escape_inline, one_line
from .markdown_sanitizer import blockquote
from .turn import ChoicePart, Header, ToolPart, TranscriptTurn

_WHO = {"api": "an API token", "web": "a Jupyter session", "policy": "the server"}
_OUTCOMES = frozenset({"allowed", "denied", "answered", "cancelled"})
SUMMARY_LIMIT = 100
"""Characters of a tool's input in the line that names the call."""


def heading(head: Header) -> str:
    """The title of a document and what it is."""
    state = ", archived" if head.archived else ""
    return (
        f"# {escape_inline(head.title)}\n\n"
        f"The transcript of the loop `{head.loop_id}`{state}, made {moment(head.created_at)}, up "
        f"to its event {head.seq}. What people and the agent wrote is quoted."
    )


def moment(time: str) -> str:
    """A stored time, to the second."""
    return f"{time[:10]} {time[11:19]} UTC"


def speaker(turn: TranscriptTurn) -> str:
    return f"**You**, {moment(turn.created_at)}"


def call_summary(call: ToolPart) -> str:
    """A tool's input in one line: the command, path or pattern that comes first in it."""
    if isinstance(call.input, Mapping):
        first = next((value for value in call.input.values() if isinstance(value, str)), "")
        return one_line(first, SUMMARY_LIMIT)
    return "" if call.input is None else one_line(str(call.input), SUMMARY_LIMIT)


def call_title(call: ToolPart) -> str:
    """A tool call and how it ended, for HTML or Markdown."""
    ended = {True: "done", False: "failed", None: "no result yet"}[call.ok]
    name = f"{escape_html(call.tool)} {escape_html(call_summary(call))}"
    return f"{name.rstrip()} ({ended})"


def choice(asked: ChoicePart) -> str:
    """What a person was asked, how it was decided, by whom and when."""
    lines = list(_questions(asked)) if asked.kind == "question" else [_permission(asked)]
    return "\n\n".join([*lines, f"{_decision(asked)}."])


def _permission(asked: ChoicePart) -> str:
    payload = asked.payload
    title = str(payload.get("command") or payload.get("title") or "")
    return f"**Permission asked** for {code_span(str(payload.get('tool', '')))}: {code_span(title)}"


def _questions(asked: ChoicePart) -> Iterator[str]:
    answers = asked.answers or {}
    for question in asked.payload.get("questions") or ():
        text = str(question.get("question"))
        labels = (str(one.get("label", "")) for one in question.get("options") or ())
        options = ", ".join(map(code_span, labels))
        yield "**Question of the agent**" + (f", with the options {options}" if options else "")
        yield blockquote(text, escape_code=True)
        answer = answers.get(question.get("id"), answers.get(text))
        if answer is not None:
            chosen = answer if isinstance(answer, list) else [answer]
            yield "**Answer**\n\n" + "\n".join(f"- {code_span(str(one))}" for one in chosen)


def _decision(asked: ChoicePart) -> str:
    if asked.outcome is None:
        return "**Not decided yet**"
    outcome = asked.outcome if asked.outcome in _OUTCOMES else "resolved"
    who = _WHO.get(asked.source or "", "somebody")
    when = f", {moment(asked.resolved_at)}" if asked.resolved_at else ""
    rule = ", and the like of it for the rest of the loop" if asked.rule else ""
    return f"**{outcome.capitalize()}** by {who}{when}{rule}"


def end(turn: TranscriptTurn) -> str:
    """How the turn ended, how long it took and what it used; or its state, if it has not ended."""
    match turn.status:
        case "error":
            error: Mapping[str, str] = turn.error or {}
            text = f"**Error** {code_span(error.get('code', ''))}{_cost(turn)}"
            return f"{text}\n\n{blockquote(error.get('message', ''), escape_code=True)}"
        case "interrupted":
            return f"**Interrupted**{_cost(turn)}."
        case "cancelled":
            return "**Cancelled** before it began."
        case "queued":
            return "**Queued**: it had not begun when this was written."
        case "waiting":
            return "**Waiting** for a person when this was written."
        case "running":
            return "**Running** when this was written."
        case "done":
            return f"*Done{_cost(turn)}.*"
    return f"*{escape_html(turn.status)}*"


def _cost(turn: TranscriptTurn) -> str:
    parts = []
    if turn.started_at and turn.ended_at:
        took = datetime.fromisoformat(turn.ended_at) - datetime.fromisoformat(turn.started_at)
        parts.append(f"in {took.total_seconds():.1f} s")
    usage: Mapping[str, Any] = turn.usage or {}
    if usage:
        parts.append(f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out")
        if usage.get("cost_usd") is not None:
            parts.append(f"\\${usage['cost_usd']:.4f}")
    return f" {', '.join(parts)}" if parts else ""
