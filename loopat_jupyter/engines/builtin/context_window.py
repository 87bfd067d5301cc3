"""Compaction: keeping a long conversation inside its model's context window.

What does not fit is left out, the least valuable first: the oldest tool results, then the oldest
turns. The current turn's message and the results that the model has just requested stay. The agent
is told what is missing and how to see it again.

The size of a request is estimated from its length, and the estimate is corrected by the tokens that
the provider reported for the last one. Once over the limit, more is left out than needed and the
new :class:`~..models.messages.Compaction` is journaled: so the beginning of the prompt stays the
same for a while, on which providers' prompt caches depend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..models.messages import (
    Compaction,
    Message,
    ModelReply,
    ReplyToolCall,
    ToolResultPart,
    ToolResults,
    UserMessage,
)
from ..tools.outcome import truncate_middle

CHARACTERS_PER_TOKEN = 3
"""Less than usual, so that the first estimate of a conversation is rather too large."""
MESSAGE_TOKENS = 8
REPLY_SHARE, REPLY_LIMIT = 4, 32_000
"""The reply's share of the window: a quarter (one part of so many), at most so many tokens."""
COMPACTION_TARGET = 0.7
"""What is aimed at, as a part of the limit, once something must be left out."""
MIN_COMPACTED = 400
"""Characters. Shorter results and inputs stay: the note in their place would be as long."""

NOTE = (
    "[loopat: this result ({} characters) was left out to save room. Call the tool again if you "
    "need it.]"
)
TURNS_NOTE = (
    "[loopat: the first {} turns of this conversation were left out because it had become too "
    "long. The files they made are still there.]"
)
INPUT_NOTE = "… [loopat: {} characters left out to save room]"

Turns = Sequence[Sequence[Message]]
"""The conversation by turns; the last one is the current turn."""


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A conversation as it is sent. ``estimate`` is its size in tokens, as estimated."""

    messages: list[Message]
    compaction: Compaction
    estimate: int


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """A model's context window; ``overhead`` is the estimate of instructions and tools.

    ``unread``: how many turns come before the conversation that is fitted.
    """

    tokens: int
    overhead: int
    unread: int = 0

    def fit(
        self, turns: Turns, compaction: Compaction, *, tighter_than: int | None = None
    ) -> FittedPrompt:
        """``turns`` with at least ``compaction`` left out, and more where that is too large.

        ``tighter_than``: the estimate of a request that the provider refused as too long. The
        target is much smaller then, and the newest results are shortened too.
        """
        limit = self.tokens - min(self.tokens // REPLY_SHARE, REPLY_LIMIT)
        limit = int(limit / token_ratio(turns))
        if tighter_than is not None:
            limit = min(limit, tighter_than) // 2
        fitted = self._fitted(turns, compaction)
        if fitted.estimate <= limit:
            return fitted
        fitted = self._leave_out(turns, fitted, int(limit * COMPACTION_TARGET))
        if tighter_than is None or fitted.estimate <= limit:
            return fitted
        return self._shorten_newest(fitted, limit)

    def _fitted(self, turns: Turns, compaction: Compaction) -> FittedPrompt:
        messages = compacted(turns, compaction, self.unread)
        return FittedPrompt(messages, compaction, self.overhead + sum(map(size, messages)))

    def _leave_out(self, turns: Turns, fitted: FittedPrompt, target: int) -> FittedPrompt:
        """Leave out results first, the fewest that reach ``target``; then turns, likewise."""
        results, excess = fitted.compaction.results, fitted.estimate - target
        for saved in _savings(turns)[results:]:
            if excess <= 0:
                break
            results, excess = results + 1, excess - saved
        fitted = self._fitted(turns, replace(fitted.compaction, results=results))
        left_out, excess = fitted.compaction.turns, fitted.estimate - target
        for turn in _compacted_results(turns[:-1], results)[left_out:]:
            if excess <= 0:
                break
            left_out, excess = left_out + 1, excess - sum(map(size, turn))
        return self._fitted(turns, replace(fitted.compaction, turns=left_out))

    def _shorten_newest(self, fitted: FittedPrompt, limit: int) -> FittedPrompt:
        """The last resort: shorten the last results to their head and tail."""
        last = fitted.messages[-1]
        if not isinstance(last, ToolResults):
            return fitted
        room = max(limit - (fitted.estimate - size(last)), 0) * CHARACTERS_PER_TOKEN
        share = max(room // max(len(last.results), 1), 2 * MIN_COMPACTED)
        results = tuple(replace(one, text=truncate_middle(one.text, share)) for one in last.results)
        messages = [*fitted.messages[:-1], ToolResults(results)]
        return FittedPrompt(messages, fitted.compaction, self.overhead + sum(map(size, messages)))


def text_size(text: str) -> int:
    """An estimate in tokens."""
    length = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return length // CHARACTERS_PER_TOKEN + 1


def size(message: Message) -> int:
    """An estimate in tokens."""
    if isinstance(message, UserMessage):
        return MESSAGE_TOKENS + text_size(message.text)
    if isinstance(message, ToolResults):
        return sum(MESSAGE_TOKENS + text_size(result.text) for result in message.results)
    return MESSAGE_TOKENS + sum(
        text_size(str(part.input) if isinstance(part, ReplyToolCall) else part.text)
        for part in message.parts
    )


def token_ratio(turns: Turns) -> float:
    """Reported tokens for each estimated one, from the last reply that has both."""
    for turn in reversed(turns):
        for message in reversed(turn):
            if isinstance(message, ModelReply) and message.estimate and message.tokens.context:
                estimated = message.estimate + size(message)
                return min(max(message.tokens.context / estimated, 0.5), 4.0)
    return 1.0


def compacted(turns: Turns, compaction: Compaction, unread: int = 0) -> list[Message]:
    """The conversation as one list, with ``compaction`` left out and notes in its place.

    ``unread``: how many turns come before the first of ``turns``.
    """
    kept = _compacted_results(turns, compaction.results)[compaction.turns :]
    messages: list[Message] = [message for turn in kept for message in turn]
    if unread + compaction.turns:
        messages.insert(0, UserMessage(TURNS_NOTE.format(unread + compaction.turns)))
    return messages


def _compacted_results(turns: Turns, count: int) -> list[list[Message]]:
    """``turns`` with their first ``count`` results, and the calls of these, made short."""
    left_out_ids = {id(result) for result in _in_order(turns)[:count]}
    if not left_out_ids:
        return [list(turn) for turn in turns]
    return [
        [_shortened(message, following, left_out_ids) for message, following in _pairs(turn)]
        for turn in turns
    ]


def _pairs(turn: Sequence[Message]) -> Iterator[tuple[Message, Message | None]]:
    following: list[Message | None] = [*turn[1:], None]
    return zip(turn, following, strict=True)


def _shortened(message: Message, following: Message | None, left_out_ids: set[int]) -> Message:
    if isinstance(message, ToolResults):
        return ToolResults(
            tuple(_note(one) if id(one) in left_out_ids else one for one in message.results)
        )
    if isinstance(message, ModelReply) and isinstance(following, ToolResults):
        calls = {one.id for one in following.results if id(one) in left_out_ids}
        if calls:
            return replace(
                message,
                parts=tuple(
                    _short_input(part)
                    if isinstance(part, ReplyToolCall) and part.id in calls
                    else part
                    for part in message.parts
                ),
            )
    return message


def _note(result: ToolResultPart) -> ToolResultPart:
    if len(result.text) < MIN_COMPACTED:
        return result
    return replace(result, text=NOTE.format(len(result.text)))


def _short_input(call: ReplyToolCall) -> ReplyToolCall:
    return replace(call, input=_short(call.input))


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) >= 2 * MIN_COMPACTED:
        return value[:MIN_COMPACTED] + INPUT_NOTE.format(len(value) - MIN_COMPACTED)
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def _in_order(turns: Turns) -> list[ToolResultPart]:
    """All results that may be left out: not those that the model has just asked for."""
    messages = [message for turn in turns for message in turn]
    if messages and isinstance(messages[-1], ToolResults):
        messages.pop()
    return [one for each in messages if isinstance(each, ToolResults) for one in each.results]


def _savings(turns: Turns) -> list[int]:
    """What leaving out each result of :func:`_in_order` saves, in tokens; inputs not counted."""
    return [text_size(one.text) - text_size(_note(one).text) for one in _in_order(turns)]
