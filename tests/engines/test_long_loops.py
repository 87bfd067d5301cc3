"""A long loop: its conversation is read as far as the model's window needs it, and no further."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.builtin.context_window import TURNS_NOTE
from loopat_jupyter.engines.builtin.engine import BuiltinEngine
from loopat_jupyter.engines.builtin.history import (
    READ_FACTOR,
    read_conversation,
    recent_turns,
    turn_messages,
)
from loopat_jupyter.engines.models.messages import (
    Compaction,
    CompactionRecord,
    Message,
    ModelReply,
    ReplyText,
    ReplyToolCall,
    UserMessage,
    compaction_entry,
    read_compaction,
)
from loopat_jupyter.engines.models.pool import ModelPool
from loopat_jupyter.engines.models.port import ModelRequest, OnDelta
from loopat_jupyter.loops.ports.engine import PastTurn, TurnSuspended

from .memory_host import DirectorySandbox, MemoryHost, turn_of

WINDOW = 4000


class ScriptedModel:
    """Calls Bash ``calls`` times in a turn, then says ``words``; keeps what it was sent."""

    name = "test/scripted"

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.calls = 1
        self.command = "printf 'out%.0s' $(seq 300)"
        self.words = "Done."
        self.sent: list[list[Message]] = []
        self._ids = 0

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        messages = list(request.messages)
        self.sent.append(messages)
        here = len(messages) - max(
            n for n, one in enumerate(messages) if isinstance(one, UserMessage) and one.current
        )
        if here // 2 >= self.calls:
            return ModelReply((ReplyText(self.words),), self.name)
        self._ids += 1
        call = ReplyToolCall(f"call_{self._ids}", "Bash", {"command": self.command})
        return ModelReply((call,), self.name)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    model = ScriptedModel()

    async def selected(pool: ModelPool, choice: SelectedModel) -> ScriptedModel:
        return model

    monkeypatch.setattr(ModelPool, "model", selected)
    return model


@dataclass
class CountingHost(MemoryHost):
    """A host that keeps which past turns were read."""

    read: list[str] = field(default_factory=list)
    counts: int = 0

    async def history(self) -> AsyncIterator[PastTurn]:
        async for turn in super().history():
            self.read.append(turn.turn_id)
            yield turn

    async def count_turns_before(self, turn_id: str) -> int:
        self.counts += 1
        return await super().count_turns_before(turn_id)


@pytest.fixture
def host(workdir: Path) -> CountingHost:
    return CountingHost(DirectorySandbox(workdir))


class Loop:
    """A loop whose turns run one after the other in memory."""

    def __init__(self, engine: BuiltinEngine, box: DirectorySandbox) -> None:
        self.engine = engine
        self.box = box
        self.past: list[PastTurn] = []

    async def turn(self, content: str, **host: Any) -> CountingHost:
        turn = turn_of(content, f"turn_{len(self.past) + 1}")
        one = CountingHost(self.box, past=list(self.past), **host)
        await self.engine.run(turn, one)
        self.past.append(one.ended(turn))
        return one


def past_turn(number: int, characters: int, **changes: Any) -> PastTurn:
    text = f"answer {number} " + "x" * characters
    return PastTurn(f"turn_{number}", f"message {number}", "done", None, (), text, **changes)


def past(messages: list[Message]) -> list[Message]:
    """``messages`` as a later turn sees them: none of them is the running turn's."""
    return [UserMessage(one.text) if isinstance(one, UserMessage) else one for one in messages]


def flat(turns: list[PastTurn]) -> list[Message]:
    return [message for turn in turns for message in turn_messages(turn)]


@pytest.mark.parametrize("count", [0, 1, 3, 60])
async def test_a_conversation_that_fits_is_read_and_sent_whole(
    host: CountingHost, engine: BuiltinEngine, model: ScriptedModel, count: int
) -> None:
    model.window, model.calls = 200_000, 0
    host.past = [past_turn(number, 500) for number in range(1, count + 1)]
    turn = turn_of("now", "turn_now")
    await engine.run(turn, host)
    assert model.sent[0] == [*flat(host.past), UserMessage("now", current=True)]
    assert host.read == [one.turn_id for one in reversed(host.past)]
    assert host.counts == 0
    assert [entry["type"] for entry in host.entries] == ["response"]


async def test_nothing_is_left_unread_that_could_be_sent(
    host: CountingHost, model: ScriptedModel
) -> None:
    """A provider may count half of what was estimated: then two windows' estimate fits."""
    host.past = [past_turn(number, 300) for number in range(1, 2 * WINDOW // 120)]
    conversation = await read_conversation(turn_of("now", "turn_now"), host, WINDOW)
    assert len(conversation.turns) == len(host.past)
    assert (conversation.unread, conversation.results) == (0, 0)


async def test_a_long_loop_is_read_as_far_as_the_window_may_need_it(host: CountingHost) -> None:
    reads = []
    for count in (200, 2000):
        host.past = [past_turn(number, 300) for number in range(1, count + 1)]
        host.read.clear()
        conversation = await read_conversation(turn_of("now", "turn_now"), host, WINDOW)
        assert conversation.turn_ids[-1] == f"turn_{count}"
        assert conversation.unread == count - len(conversation.turns)
        assert conversation.turn_ids[0] == f"turn_{conversation.unread + 1}"
        reads.append(len(host.read))
    assert abs(reads[0] - reads[1]) <= 2, "the numbers in the messages differ in length"
    assert max(reads) < 200
    assert len(conversation.turns) < reads[1], "more is dropped than needed, to stay there a while"


async def test_the_agent_is_told_how_many_turns_were_not_even_read(
    host: CountingHost, engine: BuiltinEngine, model: ScriptedModel
) -> None:
    model.calls = 0
    host.past = [past_turn(number, 300) for number in range(1, 501)]
    await engine.run(turn_of("now", "turn_now"), host)
    note, first, *_ = model.sent[0]
    assert isinstance(note, UserMessage)
    assert isinstance(first, UserMessage)
    number = int(first.text.removeprefix("message "))
    assert note.text == TURNS_NOTE.format(number - 1)
    record = read_compaction(host.entries)
    assert record == CompactionRecord(f"turn_{number}", number - 1, 0)


async def test_one_turn_larger_than_the_window_is_read_all_the_same(host: CountingHost) -> None:
    host.past = [past_turn(1, 10), past_turn(2, READ_FACTOR * WINDOW * 10)]
    conversation = await read_conversation(turn_of("now", "turn_now"), host, WINDOW)
    assert conversation.turn_ids == ("turn_2",)
    assert conversation.unread == 1


async def test_turn_after_turn_the_prompt_begins_the_same_and_little_is_read(
    engine: BuiltinEngine, model: ScriptedModel, workdir: Path
) -> None:
    loop = Loop(engine, DirectorySandbox(workdir))
    moved = read_far = 0
    for number in range(1, 81):
        model.calls = number % 3
        model.sent.clear()
        one = await loop.turn(f"message {number} " + "y" * (40 * (number % 7)))
        new = [entry for entry in one.entries if entry["type"] == "elision"]
        moved += bool(new)
        read_far = max(read_far, len(one.read))
        for before, after in zip(model.sent, model.sent[1:], strict=False):
            if not new:
                assert after[: len(before)] == before
        newest = read_compaction([e for past in loop.past for e in past.journal])
        left_out = newest.turns if newest else 0
        first = model.sent[-1][0]
        assert isinstance(first, UserMessage)
        if left_out:
            assert first.text == TURNS_NOTE.format(left_out)
            follows = model.sent[-1][1]
            assert isinstance(follows, UserMessage)
            assert follows.text.startswith(f"message {left_out + 1} ")
        else:
            assert first.text.startswith("message 1 ")
    assert 2 <= moved <= 40
    assert read_far < 60


async def test_the_next_turn_reads_back_to_the_turn_that_the_last_one_began_with(
    engine: BuiltinEngine, model: ScriptedModel, workdir: Path
) -> None:
    model.calls = 0
    loop = Loop(engine, DirectorySandbox(workdir))
    loop.past = [past_turn(number, 300) for number in range(1, 301)]
    first = await loop.turn("one")
    sent = past(model.sent[-1])
    second = await loop.turn("two")
    assert past(model.sent[-1])[: len(sent)] == sent
    record = read_compaction(first.entries)
    assert record is not None
    assert second.read[-1] == record.first_turn
    assert second.counts == 0
    assert not [entry for entry in second.entries if entry["type"] == "elision"]


async def test_a_turn_that_waited_goes_on_with_the_same_prompt(
    host: CountingHost, engine: BuiltinEngine, model: ScriptedModel
) -> None:
    host.past = [past_turn(number, 300) for number in range(1, 301)]
    host.ask = {"Bash"}
    turn = turn_of("now", "turn_now")
    with pytest.raises(TurnSuspended):
        await engine.run(turn, host)
    host.answer(True)
    await engine.run(host.resumed(turn), host)
    first, second = model.sent
    assert second[: len(first)] == first


async def test_an_agent_with_its_own_session_reads_what_it_may_be_told_and_no_more(
    host: CountingHost,
) -> None:
    host.past = [past_turn(number, 1000) for number in range(1, 1001)]
    found = await recent_turns(host, lambda turn: turn.turn_id == "turn_1000")
    assert [turn.turn_id for turn in found] == host.read[::-1]
    assert 60 * 1024 < sum(len(turn.content) + len(turn.text) for turn in found) < 80 * 1024

    host.read.clear()
    found = await recent_turns(host, lambda turn: turn.turn_id == "turn_500")
    assert found[0].turn_id == "turn_500", "the turn that names the session is among them"

    found = await recent_turns(host, lambda turn: False)
    assert found == host.past


async def test_a_turn_that_left_all_others_out_reads_none_when_it_goes_on(
    host: CountingHost,
) -> None:
    host.past = [past_turn(1, 10)]
    record = CompactionRecord("turn_now", 1, 2)
    turn = turn_of("now", "turn_now")
    host.entries = [compaction_entry(record)]
    conversation = await read_conversation(host.resumed(turn), host, WINDOW)
    assert (conversation.turns, conversation.unread, conversation.results) == ((), 1, 2)
    assert host.read == []
    assert conversation.record(Compaction(results=2), "turn_now") == record
