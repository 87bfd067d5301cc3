"""Turns from acceptance to their one end: the queue, interrupts, failures, restarts."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from loopat_jupyter.loops.choice_answers import parse_answer
from loopat_jupyter.loops.errors import (
    ChoiceNotFound,
    IdempotencyKeyReused,
    InvalidChoicePayload,
    LoopArchived,
    NotLoopOwner,
    StoreError,
    TurnFailure,
)
from loopat_jupyter.loops.models import NewMessage
from loopat_jupyter.loops.ports.engine import TurnUsage, UserQuestion

from .conftest import Domain


async def bash(host, tool_use_id: str = "t1", command: str = "ls"):
    await host.tool_call(tool_use_id, "Bash", {"command": command})
    return await host.permission(
        tool_use_id, "Bash", {"command": command}, kind="other", title="Run", display_name="Bash"
    )


def data(event) -> dict:
    return json.loads(event.data)


async def test_a_turn_begins_once_and_ends_once(domain: Domain) -> None:
    loop = await domain.loop()
    turn = await domain.send(loop, "hello")
    await domain.until("done", turn)
    assert domain.names(turn) == ["started", "assistant_delta", "done"]
    assert [event.seq for event in domain.events] == [1, 2, 3]
    assert data(domain.events[0]) == {"turn_id": turn, "cold_start": True, "content": "hello"}
    assert data(domain.events[2]) == {"turn_id": turn}


async def test_only_the_first_turn_starts_the_sandbox(domain: Domain) -> None:
    loop = await domain.loop()
    cold = []
    for _ in range(2):
        turn = await domain.send(loop)
        cold.append(data(await domain.until("started", turn))["cold_start"])
        await domain.until("done", turn)
    assert cold == [True, False]
    assert domain.tier.starts == 1


async def test_messages_queue_behind_the_running_turn_and_run_in_order(domain: Domain) -> None:
    loop = await domain.loop()
    gate = asyncio.Event()

    async def script(turn, host):
        await gate.wait()
        await host.text(turn.content)

    domain.engine.script = script
    first = await domain.service.accept_message("ada", loop, NewMessage("1"))
    second = await domain.service.accept_message("ada", loop, NewMessage("2"))
    third = await domain.service.accept_message("ada", loop, NewMessage("3"))
    assert [one.ahead for one in (first, second, third)] == [0, 1, 2]
    await domain.until("started", first.turn_id)
    state = await domain.store.loops.state(loop.loop_id)
    assert (state.busy, state.queue_depth, state.turn_count) == (True, 2, 3)
    assert state.current is not None
    assert state.current.turn_id == first.turn_id
    gate.set()
    await domain.until("done", third.turn_id)
    assert [e.turn_id for e in domain.events if e.name == "started"] == [
        first.turn_id,
        second.turn_id,
        third.turn_id,
    ]
    assert not (await domain.store.loops.state(loop.loop_id)).busy


async def test_usage_is_the_sum_over_the_turn(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await host.usage(TurnUsage(10, 2, 3, 1))
        await host.usage(TurnUsage(5, 1, 0, 0, cost_usd=0.5))

    domain.engine.script = script
    turn = await domain.send(loop)
    assert data(await domain.until("done", turn))["usage"] == {
        "input_tokens": 15,
        "output_tokens": 3,
        "cache_read_tokens": 3,
        "cache_write_tokens": 1,
        "cost_usd": 0.5,
    }


async def test_an_interrupt_closes_what_is_open_and_the_queue_runs_on(domain: Domain) -> None:
    loop = await domain.loop()
    forever = asyncio.Event()

    async def script(turn, host):
        if turn.content == "long":
            await host.tool_call("t1", "Read", {"file_path": "x"})
            await forever.wait()

    domain.engine.script = script
    first = await domain.send(loop, "long")
    second = await domain.send(loop, "short")
    await domain.until("tool_call", first)
    await domain.service.interrupt(loop)
    assert domain.names(first) == ["started", "tool_call", "tool_result", "interrupted"]
    await domain.until("done", second)


async def test_an_interrupt_when_idle_does_nothing(domain: Domain) -> None:
    loop = await domain.loop()
    await domain.service.interrupt(loop)
    turn = await domain.send(loop)
    await domain.until("done", turn)
    await domain.service.interrupt(loop)
    assert domain.names(turn)[-1] == "done"


async def test_an_interrupt_right_after_acceptance_ends_that_turn(domain: Domain) -> None:
    loop = await domain.loop()
    domain.tier.may_start.clear()
    turn = await domain.send(loop)
    await domain.service.interrupt(loop)
    assert domain.names(turn)[-1] == "interrupted"
    assert domain.names(turn).count("interrupted") == 1
    assert not (await domain.store.loops.state(loop.loop_id)).busy


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (TurnFailure("no key", "agent_error"), "agent_error"),
        (TurnFailure("too much", "budget_exceeded"), "budget_exceeded"),
        (RuntimeError("secret detail"), "agent_error"),
    ],
)
async def test_a_failing_engine_ends_its_turn_with_error(
    domain: Domain, failure, code, caplog
) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        raise failure

    domain.engine.script = script
    turn = await domain.send(loop)
    error = data(await domain.until("error", turn))
    assert error["code"] == code
    assert "secret detail" not in error["message"]
    assert not (await domain.store.loops.state(loop.loop_id)).busy


async def test_a_sandbox_that_does_not_start_fails_the_turn_and_says_why(domain: Domain) -> None:
    loop = await domain.loop()
    domain.tier.broken = True
    turn = await domain.send(loop)
    assert data(await domain.until("error", turn)) == {
        "turn_id": turn,
        "code": "sandbox_spawn_failed",
        "message": "no sandbox here",
    }
    assert domain.names(turn) == ["started", "error"]


async def test_a_choice_suspends_the_turn_and_its_answer_resumes_it(domain: Domain) -> None:
    loop = await domain.loop()
    runs = []

    async def script(turn, host):
        if not turn.journal:
            await host.journal({"step": 1})
        verdict = await bash(host)
        runs.append(verdict.allowed)
        await host.tool_result("t1", verdict.allowed, verdict.denial or "out")

    domain.engine.script = script
    turn = await domain.send(loop)
    choice = data(await domain.until("requires_choice", turn))
    assert choice["payload"]["command"] == "ls"
    assert choice["payload"]["input"] == {"command": "ls"}
    state = await domain.store.loops.state(loop.loop_id)
    assert state.current is not None
    assert (state.current.state, state.current.pending_choice_id) == (
        "waiting",
        choice["choice_id"],
    )
    with pytest.raises(InvalidChoicePayload):
        await domain.service.resolve_choice(loop, choice["choice_id"], {"allow": "x"}, "web")
    await domain.service.resolve_choice(loop, choice["choice_id"], {"allow": True}, "web")
    await domain.until("done", turn)
    assert runs == [True]
    assert domain.names(turn) == [
        "started",
        "tool_call",
        "requires_choice",
        "choice_resolved",
        "tool_result",
        "done",
    ]
    with pytest.raises(ChoiceNotFound):
        await domain.service.resolve_choice(loop, choice["choice_id"], {"allow": True}, "web")


async def test_of_two_answers_at_once_exactly_one_is_taken(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await bash(host)

    domain.engine.script = script
    turn = await domain.send(loop)
    choice = data(await domain.until("requires_choice", turn))["choice_id"]
    answers = await asyncio.gather(
        *(
            domain.service.resolve_choice(loop, choice, {"allow": i % 2 == 0}, "api")
            for i in range(6)
        ),
        return_exceptions=True,
    )
    assert sum(one is None for one in answers) == 1
    assert all(one is None or isinstance(one, ChoiceNotFound) for one in answers)
    await domain.until("done", turn)
    assert domain.names(turn).count("choice_resolved") == 1


async def test_a_remembered_permission_is_not_asked_again_until_withdrawn(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await bash(host, command="git status -s")

    domain.engine.script = script
    first = await domain.send(loop)
    choice = data(await domain.until("requires_choice", first))["choice_id"]
    await domain.service.resolve_choice(loop, choice, {"allow": True, "remember": "loop"}, "web")
    resolved = data(await domain.until("choice_resolved", first))
    assert resolved["rule"]["prefix"] == "git status"
    second = await domain.send(loop)
    await domain.until("done", second)
    assert "requires_choice" not in domain.names(second)
    await domain.service.delete_rule(loop, resolved["rule"]["rule_id"])
    third = await domain.send(loop)
    await domain.until("requires_choice", third)


async def test_an_interrupt_cancels_the_choice_of_a_suspended_turn(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await bash(host)

    domain.engine.script = script
    turn = await domain.send(loop)
    choice = data(await domain.until("requires_choice", turn))["choice_id"]
    await domain.service.interrupt(loop)
    assert domain.names(turn)[-3:] == ["choice_resolved", "tool_result", "interrupted"]
    resolved = data(await domain.until("choice_resolved", turn))
    assert (resolved["source"], resolved["outcome"]) == ("policy", "cancelled")
    with pytest.raises(ChoiceNotFound):
        await domain.service.resolve_choice(loop, choice, {"allow": True}, "web")


async def test_archiving_ends_everything_and_refuses_what_comes_later(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await bash(host)

    domain.engine.script = script
    first = await domain.send(loop)
    queued = await domain.send(loop)
    await domain.until("requires_choice", first)
    await domain.service.archive(loop)
    assert domain.names(first)[-1] == "interrupted"
    assert domain.names(queued) == ["interrupted"]
    with pytest.raises(LoopArchived):
        await domain.send(loop)
    assert domain.tier.stops == 1
    await domain.service.archive(loop)


async def test_ownership_is_checked(domain: Domain) -> None:
    loop = await domain.loop("ada")
    with pytest.raises(NotLoopOwner):
        await domain.service.owned_loop("bob", loop.loop_id)


async def test_one_key_runs_one_turn(domain: Domain) -> None:
    loop = await domain.loop()
    message = NewMessage("once", idempotency_key="k")
    both = await asyncio.gather(
        *(domain.service.accept_message("ada", loop, message) for _ in range(2))
    )
    assert both[0].turn_id == both[1].turn_id
    assert sorted(one.replayed for one in both) == [False, True]
    with pytest.raises(IdempotencyKeyReused):
        await domain.service.accept_message("ada", loop, NewMessage("other", idempotency_key="k"))
    other = await domain.service.accept_message(
        "bob", loop, message
    )  # keys are scoped to the caller
    assert other.turn_id != both[0].turn_id


async def test_after_a_crash_running_ends_waiting_waits_and_queued_runs(tmp_path) -> None:
    before = Domain(tmp_path / "loopat.db")
    await before.start()
    running_loop, waiting_loop = await before.loop(), await before.loop()
    forever = asyncio.Event()

    async def script(turn, host):
        await host.text("so far")
        await host.journal({"step": 1})
        if turn.loop_id == running_loop.loop_id:
            await host.tool_call("t0", "Read", {})
            await forever.wait()
        await bash(host)

    before.engine.script = script
    running = await before.send(running_loop)
    queued = await before.send(running_loop, "later")
    waiting = await before.send(waiting_loop)
    choice = data(await before.until("requires_choice", waiting))["choice_id"]
    await before.until("tool_call", running)
    after = Domain(before.as_a_kill_would_leave_it(tmp_path / "killed.db"))
    await before.close()
    allowed = []

    async def resumed(turn, host):
        if turn.turn_id == waiting:
            assert turn.journal == ({"step": 1},)
            allowed.append((await bash(host)).allowed)

    after.engine.script = resumed
    await after.start()
    await after.until("done", queued)
    page = await after.store.events.page(running_loop.loop_id, 0, 99)
    assert [e.seq for e in page] == list(range(1, len(page) + 1))
    assert [e.name for e in page if e.turn_id == running] == [
        "started",
        "assistant_delta",
        "tool_call",
        "tool_result",
        "error",
    ]
    assert [turn.turn_id for turn in after.engine.turns] == [queued]
    assert (await after.store.loops.state(waiting_loop.loop_id)).busy
    await after.service.resolve_choice(waiting_loop, choice, {"allow": True}, "web")
    await after.until("done", waiting)
    assert allowed == [True]
    await after.close()


async def test_an_answer_that_was_taken_before_a_crash_is_not_lost(tmp_path) -> None:
    before = Domain(tmp_path / "loopat.db")
    await before.start()
    loop = await before.loop()

    async def script(turn, host):
        await bash(host)

    before.engine.script = script
    turn = await before.send(loop)
    choice = data(await before.until("requires_choice", turn))["choice_id"]
    pending = await before.service.pending_choice(loop, choice)
    await before.store.choices.resolve(pending, parse_answer(pending, {"allow": True}, "web"))
    after = Domain(before.as_a_kill_would_leave_it(tmp_path / "killed.db"))
    await before.close()
    verdicts = []

    async def resumed(turn, host):
        verdicts.append((await bash(host)).allowed)

    after.engine.script = resumed
    await after.start()
    await after.until("done", turn)
    assert verdicts == [True]
    await after.close()


async def test_stopping_the_server_ends_what_runs_and_keeps_what_is_suspended(tmp_path) -> None:
    path = tmp_path / "loopat.db"
    domain = Domain(path)
    await domain.start()
    loop = await domain.loop()
    forever = asyncio.Event()

    async def script(turn, host):
        await host.text("x")
        await forever.wait()

    domain.engine.script = script
    running, queued = await domain.send(loop), await domain.send(loop)
    await domain.until("assistant_delta", running)
    await domain.close()
    assert data(domain.events[-1])["code"] == "server_restarted"
    assert domain.names(queued) == []
    again = Domain(path)
    await again.start()
    await again.until("done", queued)
    await again.close()


async def test_a_question_is_asked_in_every_mode_and_answered_by_id(domain: Domain) -> None:
    loop = await domain.loop()
    got = []

    async def script(turn, host):
        await host.tool_call("t1", "AskUserQuestion", {})
        got.append(await host.question("t1", [UserQuestion("q1", "Tea?", (), False)]))
        await host.tool_result("t1", True, "ok")

    domain.engine.script = script
    turn = await domain.send(loop, permission_mode="bypassPermissions")
    choice = data(await domain.until("requires_choice", turn))
    assert choice["payload"] == {
        "questions": [{"id": "q1", "question": "Tea?", "options": [], "multi_select": False}]
    }
    await domain.service.resolve_choice(
        loop, choice["choice_id"], {"answers": {"Tea?": "yes"}}, "api"
    )
    await domain.until("done", turn)
    assert got == [{"q1": "yes"}]


async def test_an_idle_sandbox_is_evicted_and_started_again_when_needed(tmp_path) -> None:
    domain = Domain(tmp_path / "loopat.db", idle_timeout=0)
    await domain.start()
    evicted = asyncio.Event()
    original = domain.service.sandbox_evicted

    async def note(loop_id):
        await original(loop_id)
        evicted.set()

    domain.service.sandbox_evicted = note  # type: ignore[method-assign]
    loop = await domain.loop()
    for _ in range(2):
        evicted.clear()
        turn = await domain.send(loop)
        assert data(await domain.until("started", turn))["cold_start"] is True
        await domain.until("done", turn)
        async with asyncio.timeout(10):
            await evicted.wait()
    assert (domain.tier.starts, domain.tier.stops) == (2, 2)
    await domain.close()


async def test_an_engine_without_durable_choices_waits_only_as_long_as_its_sandbox(
    tmp_path,
) -> None:
    domain = Domain(tmp_path / "loopat.db", idle_timeout=0)
    domain.engine.durable_choices = False
    await domain.start()
    loop = await domain.loop()

    async def script(turn, host):
        await host.sandbox()
        await bash(host)
        raise AssertionError("nobody has answered")

    domain.engine.script = script
    turn = await domain.send(loop, permission_mode="default")
    error = data(await domain.until("error", turn))
    assert error["code"] == "sandbox_evicted"
    resolved = data(await domain.until("choice_resolved", turn))
    assert (resolved["outcome"], resolved["source"]) == ("cancelled", "policy")
    assert domain.names(turn)[-2:] == ["tool_result", "error"]
    await domain.close()


async def test_a_turn_that_holds_its_task_for_a_person_is_shown_as_waiting(domain: Domain) -> None:
    domain.engine.durable_choices = False
    loop = await domain.loop()

    async def script(turn, host):
        await bash(host)

    domain.engine.script = script
    turn = await domain.send(loop, permission_mode="default")
    choice = data(await domain.until("requires_choice", turn))

    async def states() -> set[str]:
        page = await domain.store.history.messages(loop.loop_id, limit=10, after=None)
        return {row.status for row in page.rows}

    assert await states() == {"waiting"}
    assert domain.service.running == 0
    await domain.service.resolve_choice(loop, choice["choice_id"], {"allow": True}, "api")
    await domain.until("done", turn)
    assert await states() == {"done"}


async def test_what_a_model_says_is_made_fit_to_store_and_send(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        await host.text("a\0b\ud800c")
        await host.text("")

    domain.engine.script = script
    turn = await domain.send(loop)
    await domain.until("done", turn)
    deltas = [data(e)["text"] for e in domain.events if e.name == "assistant_delta"]
    assert deltas == ["a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"]


async def test_an_answer_and_an_interrupt_at_once_end_the_turn_once(domain: Domain) -> None:
    loop = await domain.loop()

    async def script(turn, host):
        verdict = await bash(host)
        await host.text("ran")
        await host.tool_result("t1", verdict.allowed, "out")

    domain.engine.script = script
    for _ in range(40):
        turn = await domain.send(loop)
        choice = data(await domain.until("requires_choice", turn))["choice_id"]
        await asyncio.gather(
            domain.service.resolve_choice(loop, choice, {"allow": True}, "web"),
            domain.service.interrupt(loop),
            return_exceptions=True,
        )
        names = domain.names(turn)
        ends = [name for name in names if name in ("done", "interrupted", "error")]
        assert len(ends) == 1, names
        assert names[-1] == ends[0], names
        assert names.count("tool_result") == names.count("choice_resolved") == 1, names
        assert not (await domain.store.loops.state(loop.loop_id)).busy


async def test_an_archived_loop_has_nothing_unfinished_after_a_crash(tmp_path) -> None:
    before = Domain(tmp_path / "loopat.db")
    await before.start()
    loop = await before.loop()
    forever = asyncio.Event()

    async def script(turn, host):
        await host.text("x")
        await forever.wait()

    before.engine.script = script
    running, queued = await before.send(loop), await before.send(loop)
    await before.until("assistant_delta", running)
    await before.store.loops.archive(loop.loop_id)  # and killed before the running turn ended
    after = Domain(before.as_a_kill_would_leave_it(tmp_path / "killed.db"))
    await before.close()
    await after.start()
    assert not (await after.store.loops.state(loop.loop_id)).busy
    events = await after.store.events.page(loop.loop_id, 0, 99)
    assert [(e.turn_id, e.name) for e in events if e.terminal] == [
        (queued, "interrupted"),
        (running, "error"),
    ]
    assert after.engine.turns == []
    await after.close()


async def test_a_turn_whose_begin_cannot_be_saved_has_not_begun(
    domain: Domain, monkeypatch
) -> None:
    monkeypatch.setattr("loopat_jupyter.loops.actor.STORE_RETRY", 0.01)
    begin, refused = domain.store.turns.begin, asyncio.Event()

    async def full(turn, *, cold_start, engine):
        if not refused.is_set():
            refused.set()
            raise StoreError("full")
        return await begin(turn, cold_start=cold_start, engine=engine)

    monkeypatch.setattr(domain.store.turns, "begin", full)
    loop = await domain.loop()
    turn = await domain.send(loop)
    await domain.until("done", turn)
    assert refused.is_set()
    assert domain.names(turn) == ["started", "assistant_delta", "done"]


async def test_whatever_is_done_in_whatever_order_a_turn_ends_once(tmp_path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(25):
        await mix(chance, tmp_path / f"{chance.random()}.db")


async def mix(chance: random.Random, path) -> None:
    """Messages, answers, interrupts and an archiving, at random moments of each other."""
    domain = Domain(path)

    async def script(turn, host):
        verdict = await bash(host)
        await host.text("ran")
        await host.tool_result("t1", verdict.allowed, "out")

    domain.engine.script = script
    await domain.start()
    loop = await domain.loop()
    sent: list[str] = []

    async def send() -> None:
        sent.append(await domain.send(loop))

    async def answer() -> None:
        state = await domain.store.loops.state(loop.loop_id)
        if state.current and state.current.pending_choice_id:
            choice = state.current.pending_choice_id
            await domain.service.resolve_choice(
                loop, choice, {"allow": chance.random() < 0.8}, "web"
            )

    async def later(work, turns_of_the_loop: int) -> None:
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        await work()

    works = chance.choices([send, answer, lambda: domain.service.interrupt(loop)], k=40)
    works.append(lambda: domain.service.archive(loop))
    done = await asyncio.gather(
        *(later(work, chance.randrange(i * 12 + 1)) for i, work in enumerate(works)),
        return_exceptions=True,
    )
    for one in done:
        assert one is None or isinstance(one, ChoiceNotFound | LoopArchived), one
    assert not (await domain.store.loops.state(loop.loop_id)).busy
    for turn in sent:
        names = domain.names(turn)
        ends = [name for name in names if name in ("done", "interrupted", "error")]
        assert len(ends) == 1, (names, turn)
        assert names[-1] == ends[0], names
        assert names.count("started") == (names != ["interrupted"]), names
        assert names.count("requires_choice") == names.count("choice_resolved"), names
        assert names.count("tool_call") == names.count("tool_result"), names
    await domain.close()


async def test_what_a_tier_keeps_of_archived_and_unknown_loops_is_discarded_at_the_start(
    tmp_path,
) -> None:
    before = Domain(tmp_path / "before.db")
    await before.start()
    archived, living = await before.loop(), await before.loop()
    await before.service.archive(archived)
    assert before.tier.discarded == [archived.loop_id]
    await before.close()
    after = Domain(tmp_path / "before.db")
    after.tier.remains = [archived.loop_id, living.loop_id, "loop_nobody_knows"]
    await after.start()
    assert after.tier.discarded == [archived.loop_id, "loop_nobody_knows"]
    await after.close()
