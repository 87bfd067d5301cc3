"""A message to a long loop: accepted, its turn begun, and its prompt built.

In this process, over a store of its own: neither the network nor the model is part of it. The turns
of a loop are like those of an agent at work: a message, one call with a long result, an answer. 50
of them are about as much as is read for the window that is measured with, so a longer loop may
cost no more.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loopat_jupyter.engines.builtin.context_window import ContextWindow
from loopat_jupyter.engines.builtin.history import Conversation, read_conversation
from loopat_jupyter.engines.models.messages import (
    Compaction,
    ModelReply,
    ReplyText,
    ReplyToolCall,
    ToolResultPart,
    UserMessage,
    compaction_entry,
    response_entry,
    result_entry,
)
from loopat_jupyter.loops.event_broadcaster import EventBroadcaster
from loopat_jupyter.loops.models import (
    LoopRecord,
    NewMessage,
    NewToolCall,
    NewToolResult,
    TurnRecord,
    TurnUpdate,
    new_loop_id,
    now,
)
from loopat_jupyter.loops.ports.engine import Turn
from loopat_jupyter.loops.ports.sandbox import Sandbox
from loopat_jupyter.loops.turn_context import TurnContext
from loopat_jupyter.store import Store

from .bench import Run
from .measures import Measure, quantile, quantiles

SHORT, LONG = 50, 5000
WINDOW = 32_000
"""Tokens of the model's context window."""
RESULT = 6000
"""Characters of the result of each turn's call."""
OVERHEAD = 3000
"""Tokens of instructions and tools."""


async def new_loop(store: Store) -> LoopRecord:
    loop = LoopRecord(
        loop_id=new_loop_id(),
        owner="bench",
        title="bench",
        created_at=now(),
        metadata={},
        profiles=(),
        vault="default",
        repo=None,
    )
    await store.loops.create(loop)
    return loop


async def add_turns(store: Store, loop: LoopRecord, count: int) -> None:
    """``count`` finished turns of one call each, written with the store's own interface."""
    for number in range(count):
        message = NewMessage(f"message {number} " + "m" * 100)
        await store.turns.accept(loop.owner, loop.loop_id, message, queue_limit=1)
        turn = await store.turns.current(loop.loop_id)
        assert turn is not None
        call = ReplyToolCall(f"call_{number}", "Bash", {"command": "make"})
        result = ToolResultPart(call.id, "Bash", True, f"{number} " + "r" * RESULT)
        entries = [
            response_entry(ModelReply((call,))),
            result_entry(result),
            response_entry(ModelReply((ReplyText("Done."),))),
        ]
        update = TurnUpdate(
            entries,
            calls=[NewToolCall(call.id, call.tool, call.input, {"tool_use_id": call.id})],
            results=[NewToolResult(call.id, True, result.text)],
        )
        await asyncio.gather(  # in this order, and one commit
            store.turns.begin(turn, cold_start=False, engine="builtin"),
            store.turns.record(turn, update),
            store.turns.log(turn, "assistant_delta", {"text": "Done."}),
            store.turns.finish(turn, "done"),
        )


async def _no_sandbox() -> Sandbox:
    raise RuntimeError("no tool runs here")


def context_of(store: Store, turn: TurnRecord) -> TurnContext:
    return TurnContext(
        turn,
        "bypassPermissions",
        store,
        EventBroadcaster(store.events),
        _no_sandbox,
        durable_choices=True,
        choices=(),
    )


async def prepare_turn(store: Store, loop: LoopRecord) -> tuple[TurnRecord, Conversation]:
    """Accept a message, begin its turn and build its prompt: what is measured."""
    message = NewMessage("And now?")
    await store.turns.accept(loop.owner, loop.loop_id, message, queue_limit=1)
    turn = await store.turns.next(loop.loop_id)
    assert turn is not None
    await store.turns.begin(turn, cold_start=False, engine="builtin")
    running = Turn(
        turn_id=turn.turn_id,
        loop_id=loop.loop_id,
        owner=loop.owner,
        content=turn.content,
        permission_mode="bypassPermissions",
        vault=loop.vault,
        profiles=loop.profiles,
        journal=(),
    )
    past = await read_conversation(running, context_of(store, turn), WINDOW)
    here = [UserMessage(turn.content, current=True)]
    window = ContextWindow(WINDOW, OVERHEAD, past.unread)
    fitted = window.fit([*past.turns, here], Compaction(results=past.results))
    await _finish(store, turn, past, fitted.elision)
    return turn, past


async def _finish(
    store: Store, turn: TurnRecord, past: Conversation, compaction: Compaction
) -> None:
    """Store the response, with the compaction where it is a new one, and end the turn."""
    entries = [response_entry(ModelReply((ReplyText("Yes."),)))]
    record = past.record(compaction, turn.turn_id)
    if record != past.recorded:
        entries.insert(0, compaction_entry(record))
    await store.turns.record(turn, TurnUpdate(entries))
    await store.turns.finish(turn, "done")


@asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(prefix="loopat-bench-") as directory:
        store = Store(Path(directory) / "loopat.db")
        store.start(lambda _: None)
        try:
            yield store
        finally:
            await asyncio.to_thread(store.close)


async def _times(store: Store, loops: list[LoopRecord], samples: int) -> list[list[float]]:
    """Milliseconds of ``samples`` messages to each loop; the loops take turns."""
    times: list[list[float]] = [[] for _ in loops]
    for loop in loops:
        await prepare_turn(store, loop)  # reads without a recorded compaction, once
    for _ in range(samples):
        for loop, found in zip(loops, times, strict=True):
            begin = time.monotonic()
            await prepare_turn(store, loop)
            found.append((time.monotonic() - begin) * 1000)
    return times


async def conversation(run: Run) -> list[Measure]:
    """A message to a loop of 50 turns and to one of 5,000: accepted, begun, its prompt built."""
    counts = SHORT, run.pick(LONG, 500)
    async with open_store() as store:
        loops = [await new_loop(store) for _ in counts]
        for loop, count in zip(loops, counts, strict=True):
            await add_turns(store, loop, count)
        short, long = await _times(store, loops, run.pick(100, 10))
    note = f"{counts[0]} and {counts[1]} turns, a window of {WINDOW} tokens"
    ratio = quantile(long, 0.5) / quantile(short, 0.5)
    return [
        *quantiles("conversation", "long loop", long, baseline=short, note=note),
        Measure(
            "conversation",
            "long loop over short loop p50",
            ratio,
            "",
            len(long),
            budget="conversation.ratio",
            note=note,
        ),
    ]
