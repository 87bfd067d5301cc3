"""The conversation so far, rebuilt from the loop's earlier turns.

A turn that was cut off is repaired so that any provider accepts it and the agent knows what
happened: calls without a result get one that says so, text that was shown but belongs to no
complete answer is kept, and a note tells what ended the turn. A turn that another engine ran has
no journal of ours: its message and its visible text stand for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...loops.ports.engine import PastTurn
from ..models.messages import (
    Compaction,
    Message,
    ModelReply,
    ModelStep,
    ReplyText,
    ToolResultPart,
    UserMessage,
    is_journal,
    read_compaction,
    read_journal,
    visible_text,
)

NO_RESULT = "No result: the turn was cut off before this call had ended. It may have run in part."

_WHY = {
    "server_restarted": "the server restarted",
    "sandbox_evicted": "its sandbox was taken away",
    "sandbox_spawn_failed": "no sandbox could be started",
    "budget_exceeded": "it had used up its budget",
    "send_failed": "the message could not be sent",
    "agent_error": "an error occurred",
}


def past_turns(turns: Iterable[PastTurn]) -> list[list[Message]]:
    """The messages of the earlier turns, oldest turn first, each with its user's message. The
    note about a cut-off turn is the turn's last message."""
    return [[UserMessage(turn.content), *_turn_messages(turn)] for turn in turns]


def last_compaction(turns: Iterable[PastTurn]) -> Compaction:
    """How much of the conversation was left out at last."""
    found = [read_compaction(turn.journal) for turn in turns if is_journal(turn.journal)]
    return next((elision for elision in reversed(found) if elision is not None), Compaction())


def _turn_messages(turn: PastTurn) -> list[Message]:
    exchanges = read_journal(turn.journal) if is_journal(turn.journal) else []
    messages: list[Message] = []
    for exchange in exchanges:
        _repair(exchange)
        messages.extend(exchange.messages())
    told = visible_text(exchange.response for exchange in exchanges)
    rest = turn.text[len(told) :]
    if rest.strip():
        messages.append(ModelReply((ReplyText(rest),)))
    if turn.state != "done":
        messages.append(UserMessage(cut_off_note(turn, cut_text=bool(rest.strip()))))
    elif not exchanges and not rest.strip():
        messages.append(ModelReply((ReplyText("(no answer)"),)))
    return messages


def _repair(exchange: ModelStep) -> None:
    for call in exchange.open_calls:
        exchange.results[call.id] = ToolResultPart(call.id, call.tool, False, NO_RESULT)


def cut_off_note(turn: PastTurn, *, cut_text: bool) -> str:
    """What an agent is told about an earlier turn that did not come to its end."""
    if turn.state == "interrupted":
        why = "the user interrupted it"
    else:
        why = _WHY.get(turn.error_code or "", "an error occurred")
    where = " Your last text above is incomplete." if cut_text else ""
    return (
        f"[loopat: the previous turn was cut off because {why}.{where} What its tools had done "
        "by then is done; do not assume that the rest was.]"
    )
