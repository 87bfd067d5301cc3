"""The conversation so far, rebuilt from the loop's earlier turns.

A turn that was cut off is repaired so that any provider accepts it and the agent knows what
happened: calls without a result get one that says so, text that was shown but belongs to no
complete answer is kept, and a note tells what ended the turn. A turn that another engine ran has
no journal of ours: its message and its visible text stand for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...loops.ports.engine import PastTurn, Turn, TurnHost
from ..models.messages import (
    Compaction,
    CompactionRecord,
    Message,
    ModelReply,
    ModelStep,
    ReplyText,
    ToolResultPart,
    ToolResults,
    UserMessage,
    is_journal,
    read_compaction,
    read_journal,
    visible_text,
)
from .context_window import COMPACTION_TARGET, size

READ_FACTOR = 3
"""How many context windows are read at most, by the estimate of :func:`.context_window.size`. What
fits is at most two by that estimate, since a request may be half as large as estimated; the rest
is there for results that are left out of turns which are sent."""

RECENT_TEXT, RECENT_MESSAGE = 64 * 1024, 8 * 1024
"""Characters of turns, and of one message in them, that :func:`recent_turns` counts. Not less than
what :mod:`..agents.catch_up` puts into words: at most 60 KiB, and no message cut below 8 KiB."""

NO_RESULT = "No result: the turn was cut off before this call had ended. It may have run in part."

_WHY = {
    "server_restarted": "the server restarted",
    "sandbox_evicted": "its sandbox was taken away",
    "sandbox_spawn_failed": "no sandbox could be started",
    "budget_exceeded": "it had used up its budget",
    "send_failed": "the message could not be sent",
    "agent_error": "an error occurred",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The earlier turns that a model may be sent, oldest first: ``turn_ids`` and their messages.

    ``unread`` turns of the loop come before them. ``recorded`` is the newest compaction that the
    loop's journals hold, ``results`` how many tool results of these turns it leaves out.
    """

    turn_ids: tuple[str, ...] = ()
    turns: tuple[list[Message], ...] = ()
    unread: int = 0
    results: int = 0
    recorded: CompactionRecord = field(default_factory=CompactionRecord)

    def record(self, compaction: Compaction, running_turn: str) -> CompactionRecord:
        """``compaction`` of these turns, as a journal of the turn ``running_turn`` keeps it."""
        left_out = compaction.turns
        gone = sum(
            len(message.results)
            for turn in self.turns[:left_out]
            for message in turn
            if isinstance(message, ToolResults)
        )
        turns = self.unread + left_out
        first = [*self.turn_ids, running_turn][left_out] if turns else ""
        return CompactionRecord(first, turns, max(compaction.results - gone, 0))


async def read_conversation(turn: Turn, host: TurnHost, window_tokens: int) -> Conversation:
    """Read the turns before ``turn``, newest first, as far as its model's window may need them.

    That is back to the first turn that the last recorded compaction keeps, or until so much was
    read that nothing before it can be sent, whichever comes first. Then more is dropped than
    needed, so that the next turns begin their prompts with the same turn.
    """
    budget = READ_FACTOR * window_tokens
    recorded = read_compaction(turn.journal)
    newest_first: list[tuple[str, list[Message], int]] = []
    if recorded is not None and recorded.first_turn == turn.turn_id:
        return Conversation((), (), recorded.turns, recorded.results, recorded)
    total = 0
    async for past in host.history():
        if recorded is None and is_journal(past.journal):
            recorded = read_compaction(past.journal)
        messages = turn_messages(past)
        tokens = sum(map(size, messages))
        newest_first.append((past.turn_id, messages, tokens))
        total += tokens
        if recorded is not None and recorded.first_turn == past.turn_id:
            return _conversation(newest_first, recorded.turns, recorded.results, recorded)
        if total > budget:
            break
    else:
        results = recorded.results if recorded is not None and not recorded.first_turn else 0
        return _conversation(newest_first, 0, results, recorded)
    while len(newest_first) > 1 and total > budget * COMPACTION_TARGET:
        total -= newest_first.pop()[2]
    unread = await host.count_turns_before(newest_first[-1][0])
    return _conversation(newest_first, unread, 0, recorded)


def _conversation(
    newest_first: list[tuple[str, list[Message], int]],
    unread: int,
    results: int,
    recorded: CompactionRecord | None,
) -> Conversation:
    oldest_first = newest_first[::-1]
    return Conversation(
        tuple(turn_id for turn_id, _, _ in oldest_first),
        tuple(messages for _, messages, _ in oldest_first),
        unread,
        results,
        recorded or CompactionRecord(),
    )


async def recent_turns(host: TurnHost, has_session: Callable[[PastTurn], bool]) -> list[PastTurn]:
    """The newest earlier turns, oldest first, for an engine whose agent keeps its own session.

    Such an agent is told in words, of bounded length, what its session does not hold. So the turns
    are read back to one that ``has_session`` (the journal of which names the session), and until
    they hold more text than it is ever told.
    """
    newest_first: list[PastTurn] = []
    found, characters = False, 0
    async for turn in host.history():
        newest_first.append(turn)
        found = found or has_session(turn)
        characters += min(len(turn.content), RECENT_MESSAGE) + min(len(turn.text), RECENT_MESSAGE)
        if found and characters > RECENT_TEXT:
            break
    return newest_first[::-1]


def turn_messages(turn: PastTurn) -> list[Message]:
    """An earlier turn's messages, its user's first. The note about a cut-off turn is the last."""
    return [UserMessage(turn.content), *_agent_messages(turn)]


def _agent_messages(turn: PastTurn) -> list[Message]:
    exchanges = read_journal(turn.journal) if is_journal(turn.journal) else []
    messages: list[Message] = []
    for exchange in exchanges:
        _repair(exchange)
        messages.extend(exchange.messages())
    complete = visible_text(exchange.response for exchange in exchanges)
    rest = turn.text[len(complete) :]
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
