"""A state machine over turns and choices: any order of calls leaves the loop as the model says.

Hypothesis picks the calls, the real server carries them out, and after each one the Loop object
has to agree with a model of a few lines. Every stream and every log goes through the invariants.
The seed is printed; ``LOOPAT_MACHINE_SEED`` sets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import Gate, Hold, MockModel, Script, Text, ask, asked, bash
from tests.support.server import JupyterServer
from tests.support.sse import EventStream

pytestmark = pytest.mark.slow(8)

T = TypeVar("T")
EXAMPLES = 20
STEPS = 20


@dataclass
class ModelTurn:
    """What is known of one accepted message."""

    kind: str
    script: Script
    gate: Gate
    key: str = field(default_factory=lambda: f"machine-{secrets.token_hex(6)}")
    turn_id: str | None = None
    choice_id: str | None = None

    @property
    def mode(self) -> str:
        return "default" if self.kind == "permission" else "auto"


class Loop(RuleBasedStateMachine):
    """One loop, its running turn, its queue, and the choices that were resolved."""

    server: ClassVar[JupyterServer]
    model: ClassVar[MockModel]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.recorder = Recorder()
        self.stack = contextlib.AsyncExitStack()
        self.turns: list[ModelTurn] = []
        self.unfinished: list[ModelTurn] = []
        self.resolved: list[str] = []
        self.outcomes: list[tuple[str | None, str]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def head(self) -> ModelTurn:
        return self.unfinished[0]

    @initialize()
    def begin(self) -> None:
        async def work() -> None:
            self.api = await self.stack.enter_async_context(
                Caller(self.server, self.recorder, headers=self.server.session)
            )
            self.loop_id = await self.api.loop()
            self.watching: EventStream = await self.stack.enter_async_context(
                self.api.watch(self.loop_id, after_seq=0)
            )

        self.run(work())

    # ------------------------------------------------------------------ what a person does

    @rule(kind=st.sampled_from(["held", "permission", "question"]))
    def send(self, kind: str) -> None:
        gate = Gate()
        steps: dict[str, list[list[Any]]] = {
            "held": [[Text("so "), Hold(gate), Text("done")]],
            "permission": [[bash("echo x >> allowed")], [Text("done")]],
            "question": [[ask(asked("Which?", "A", "B"))], [Text("done")]],
        }
        turn = ModelTurn(kind, self.model.script(*steps[kind]), gate)

        async def work() -> None:
            async with self.post(turn) as stream:
                first = await stream.event()
            if self.unfinished:
                expected = {"position": len(self.unfinished)}
                assert (first.name, first.data) == ("queued", expected)
            else:
                assert first.name == "started"
                turn.turn_id = first.data["turn_id"]
            self.turns.append(turn)
            self.unfinished.append(turn)
            if len(self.unfinished) == 1:
                await self.head_runs()

        self.run(work())

    @precondition(lambda self: self.unfinished and self.head.kind == "held")
    @rule()
    def let_the_model_go_on(self) -> None:
        self.head.gate.open()
        self.run(self.head_ends("done"))

    @precondition(lambda self: self.unfinished and self.head.kind == "permission")
    @rule(allow=st.booleans())
    def answer_a_permission(self, allow: bool) -> None:
        async def work() -> None:
            await self.accept(allow=allow)
            outcome = "allowed" if allow else "denied"
            assert (await self.watching.until("choice_resolved")).data["outcome"] == outcome
            assert (await self.watching.until("tool_result")).data["ok"] is allow
            await self.head_ends("done")

        self.run(work())

    @precondition(lambda self: self.unfinished and self.head.kind == "question")
    @rule(text=st.sampled_from(["A", "B", "neither"]))
    def answer_a_question(self, text: str) -> None:
        async def work() -> None:
            await self.accept(answers={"Which?": text})
            assert (await self.watching.until("choice_resolved")).data["outcome"] == "answered"
            await self.head_ends("done")

        self.run(work())

    @precondition(lambda self: self.unfinished and self.head.choice_id)
    @rule()
    def answer_in_a_wrong_shape(self) -> None:
        async def work() -> None:
            assert self.head.choice_id is not None
            wrong = {"allow": True} if self.head.kind == "question" else {"answers": {}}
            answer = await self.api.choose(self.loop_id, self.head.choice_id, **wrong)
            expect(answer, 400, "invalid_choice_payload")

        self.run(work())

    @precondition(lambda self: self.resolved)
    @rule(data=st.data())
    def answer_what_is_not_pending(self, data: st.DataObject) -> None:
        choice_id = data.draw(st.sampled_from(self.resolved))
        answer = self.run(self.api.choose(self.loop_id, choice_id, allow=True))
        expect(answer, 404, "choice_not_found")

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def send_an_old_message_again(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.turns))

        async def work() -> None:
            async with self.post(turn) as stream:
                first = await stream.event()
                if first.seq is not None and turn.turn_id is not None:
                    assert first.data["turn_id"] == turn.turn_id
                elif turn.turn_id is None:
                    assert first.name == "queued"
                    assert first.data == {"position": self.unfinished.index(turn)}

        self.run(work())

    @rule()
    def interrupt(self) -> None:
        async def work() -> None:
            await self.api.interrupt(self.loop_id)
            if self.unfinished:
                await self.head_ends("interrupted")

        self.run(work())

    # ------------------------------------------------------------------ what then is true

    def post(self, turn: ModelTurn) -> contextlib.AbstractAsyncContextManager[EventStream]:
        return self.api.send(self.loop_id, turn.script.message(), mode=turn.mode, key=turn.key)

    async def accept(self, **answer: Any) -> None:
        assert self.head.choice_id is not None
        given = await self.api.choose(self.loop_id, self.head.choice_id, **answer)
        assert given.status_code == 202, given.text

    async def head_runs(self) -> None:
        """The first of the unfinished turns begins, and comes to where it waits."""
        turn = self.head
        started = await self.watching.until("started")
        assert started.data["content"] == turn.script.message()
        assert turn.turn_id in {None, started.data["turn_id"]}
        turn.turn_id = started.data["turn_id"]
        if turn.kind == "held":
            await self.watching.until("assistant_delta")
            await turn.gate.reached()
        else:
            required = await self.watching.until("requires_choice")
            assert required.data["kind"] == turn.kind
            turn.choice_id = required.data["choice_id"]

    async def head_ends(self, how: str) -> None:
        """The running turn ends so; the next one begins."""
        ended = await self.watching.until("done", "interrupted", "error")
        assert (ended.name, ended.data["turn_id"]) == (how, self.head.turn_id), ended
        turn = self.unfinished.pop(0)
        self.outcomes.append((turn.turn_id, how))
        if turn.choice_id is not None:
            self.resolved.append(turn.choice_id)
        if self.unfinished:
            await self.head_runs()

    @invariant()
    def the_loop_object_agrees(self) -> None:
        if not hasattr(self, "loop_id"):
            return
        state = self.run(self.api.state(self.loop_id))
        assert state["busy"] is bool(self.unfinished)
        assert state["queue_depth"] == max(0, len(self.unfinished) - 1)
        assert state["turn_count"] == len(self.turns)
        current = state["current_turn"]
        if not self.unfinished:
            assert current is None
            return
        assert current["turn_id"] == self.head.turn_id
        assert current["pending_choice_id"] == self.head.choice_id

    def teardown(self) -> None:
        async def work() -> None:
            log = [e for e in self.watching.events if e.terminal]
            assert [(e.data["turn_id"], e.name) for e in log] == self.outcomes
            await self.stack.aclose()
            await self.recorder.settle()

        try:
            if hasattr(self, "watching"):
                self.run(work())
        finally:
            self.runner.close()


def test_any_order_of_calls_leaves_the_loop_as_the_model_says(
    server: JupyterServer, model: MockModel
) -> None:
    chosen = int(os.environ.get("LOOPAT_MACHINE_SEED") or secrets.randbits(32))
    print(f"LOOPAT_MACHINE_SEED={chosen}")
    Loop.server, Loop.model = server, model
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(chosen)(Loop), settings=limits)
