"""What a transcript says in its own words, as Markdown: headings, choices, ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .escape import code_span, escape_inline
from .markdown_sanitizer import blockquote
from .turn import ChoicePart, Header, ToolPart, TranscriptTurn

_WHO = {"api": "an API token", "web": "a Jupyter session", "policy": "the server"}
_OUTCOME = {
    "allowed": "allowed",
    "denied": "denied",
    "answered": "answered",
    "cancelled": "cancelled",
}


def heading(head: Header) -> str:
    """What the document is."""
    state = ", archived" if head.archived else ""
    return (
        f"# {escape_inline(head.title)}\n\n"
        f"The transcript of the loop `{head.loop_id}`{state}, made {moment(head.created_at)}, up "
        f"to its event {head.seq}. What people and the agent wrote is quoted."
    )


def moment(time: str) -> str:
    """A stored time, to the second."""
    return f"{time[:10]} {time[11:19]} UTC"


def speaker(story: TranscriptTurn) -> str:
    return f"**You**, {moment(story.created_at)}"


def call_title(call: ToolPart) -> str:
    """A tool call, and how it ended."""
    ended = {True: "done", False: "failed", None: "no result yet"}[call.ok]
    return f"{code_span(call.tool)}, {ended}"


def choice(asked: ChoicePart) -> str:
    """What a person was asked, what came of it, by whom and when."""
    lines = [_permission(asked)] if asked.kind == "permission" else list(_questions(asked))
    return "\n\n".join([*lines, f"{_decision(asked)}."])


def _permission(asked: ChoicePart) -> str:
    payload = asked.payload
    title = payload.get("command") or payload.get("title") or ""
    return f"**Permission asked** for {code_span(str(payload.get('tool', '')))}: " + code_span(
        str(title)
    )


def _questions(asked: ChoicePart) -> Iterator[str]:
    answers = asked.answers or {}
    for question in asked.payload.get("questions", ()):
        options = ", ".join(code_span(str(one.get("label", ""))) for one in question["options"])
        yield "**Question of the agent**" + (f", with the options {options}" if options else "")
        yield blockquote(str(question["question"]))
        answer = answers.get(question["id"], answers.get(question["question"]))
        if answer is not None:
            said = answer if isinstance(answer, list) else [answer]
            yield "**Answer**\n\n" + "\n".join(f"- {code_span(str(one))}" for one in said)


def _decision(asked: ChoicePart) -> str:
    if asked.outcome is None:
        return "**Not decided yet**"
    who = _WHO.get(asked.source or "", "somebody")
    when = f", {moment(asked.resolved_at)}" if asked.resolved_at else ""
    kept = ", and the like of it for the rest of the loop" if asked.rule else ""
    return f"**{_OUTCOME.get(asked.outcome, 'resolved').capitalize()}** by {who}{when}{kept}"


def end(story: TranscriptTurn) -> str:
    """How the turn ended, and what it took."""
    match story.status:
        case "error":
            error: Mapping[str, str] = story.error or {}
            text = f"**Error** {code_span(error.get('code', ''))}{_cost(story)}"
            return f"{text}\n\n{blockquote(error.get('message', ''))}"
        case "interrupted":
            return f"**Interrupted**{_cost(story)}."
        case "cancelled":
            return "**Cancelled** before it began."
        case "queued":
            return "**Queued**: it had not begun when this was written."
        case "waiting":
            return "**Waiting** for a person when this was written."
        case "running":
            return "**Running** when this was written."
    return f"*Done{_cost(story)}.*"


def _cost(story: TranscriptTurn) -> str:
    parts = []
    if story.started_at and story.ended_at:
        took = datetime.fromisoformat(story.ended_at) - datetime.fromisoformat(story.started_at)
        parts.append(f"in {took.total_seconds():.1f} s")
    usage: Mapping[str, Any] = story.usage or {}
    if usage:
        parts.append(f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out")
        if usage.get("cost_usd") is not None:
            parts.append(f"${usage['cost_usd']:.4f}".replace("$", "\\$"))
    return f" {', '.join(parts)}" if parts else ""


def rendered_as_choice(call: ToolPart, story: TranscriptTurn) -> bool:
    """A question is told once: by the choice, not by the call that asked it too."""
    return any(
        isinstance(part, ChoicePart)
        and part.kind == "question"
        and part.tool_use_id == call.tool_use_id
        for part in story.parts
    )
