"""Whether a turn still gets anywhere: replies without content, and calls that fail alike.

A model that repeats itself would be called until the turn's budget is used up. So a turn ends, with
words, after so many equal failures or empty replies in a row. Both are read off the turn's own
steps, so the count survives a wait and a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ...loops.errors import TurnFailure
from ..models.messages import ModelReply, ModelStep, ReplyToolCall, ToolResultPart

EQUAL_FAILURES = 3
EMPTY_REPLIES = 2
"""How often a model that sends nothing is asked to go on."""

EMPTY_REPLY_NOTE = (
    "[loopat: your last reply had neither text nor a tool call. Continue with the task, or say in "
    "words that it is done.]"
)
CUT_CALL = (
    "This call was cut off at the model's output limit, so nothing was run. Make it smaller: write "
    "a long file in several pieces (first Write the beginning, then add the rest with Edit or "
    "Bash), each well below what fitted here."
)


def is_final(reply: ModelReply) -> bool:
    """Whether the turn is over with this reply."""
    return not (reply.calls or reply.paused or is_empty(reply))


def is_empty(reply: ModelReply) -> bool:
    """Neither text nor a call: thinking alone is no answer."""
    return not reply.calls and not reply.paused and not reply.text.strip()


def check_progress(steps: Sequence[ModelStep], model: str) -> None:
    """Raises :class:`TurnFailure` where the turn's last steps were all the same failure."""
    last = steps[-1].response
    if is_empty(last) and _empty_at_the_end(steps) > EMPTY_REPLIES:
        thought = any(not isinstance(part, ReplyToolCall) and part.text for part in last.parts)
        what = "thought, but gave no answer" if thought else "sent an empty answer"
        raise TurnFailure(f"{model} {what}, {EMPTY_REPLIES + 1} times in a row. Send it again.")
    failures = [_failure_of(step) for step in steps[-EQUAL_FAILURES:]]
    if len(failures) == EQUAL_FAILURES and failures[0] and len(set(failures)) == 1:
        tool, text, _ = failures[0][0]
        raise TurnFailure(
            f"The agent made the same failing call {EQUAL_FAILURES} times in a row ({tool}: "
            f"{_first_line(text)}). What it had done before is kept. Tell it another way to go."
        )


def is_cut_off(reply: ModelReply, call: ReplyToolCall) -> bool:
    """Whether ``call`` is the one that the output limit cut off."""
    return reply.cut and call == reply.calls[-1] and isinstance(call.input, str)


def _empty_at_the_end(steps: Sequence[ModelStep]) -> int:
    count = 0
    for step in reversed(steps):
        if not is_empty(step.response):
            break
        count += 1
    return count


def _failure_of(step: ModelStep) -> tuple[tuple[str, str, str], ...]:
    """What failed in a step of failures alone: tool, result and, where it was JSON, input."""
    results = [(call, step.results.get(call.id)) for call in step.response.calls]
    if not results or any(result is None or result.ok for _, result in results):
        return ()
    return tuple(_signature(call, result) for call, result in results if result is not None)


def _signature(call: ReplyToolCall, result: ToolResultPart) -> tuple[str, str, str]:
    sent = call.input
    shown = json.dumps(dict(sent), sort_keys=True) if isinstance(sent, Mapping) else ""
    return call.tool, result.text, shown


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:200]}…"
