"""Choices: permissions and questions, who resolves them, what a wrong answer does."""

import asyncio
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text, Tool, ask, asked, bash
from tests.support.sse import Event

ALLOW_SHAPES: list[Any] = [
    {}, {"allow": "yes"}, {"allow": 1}, {"allow": None}, {"answers": {"q": "a"}},
    {"allow": True, "remember": "forever"}, {"allow": True, "remember": True},
    {"allow": True, "remember": ""}, {"allow": [True]},
]  # fmt: skip
ANSWER_SHAPES: list[Any] = [
    {}, {"allow": True}, {"answers": None}, {"answers": []}, {"answers": "Red"}, {"answers": {}},
    {"answers": {"unknown question": "Red"}}, {"answers": {"Which color?": 5}},
    {"answers": {"Which color?": ["Red"]}}, {"answers": {"Which color?": None}},
    {"answers": {"Which color?": {"label": "Red"}}},
]  # fmt: skip


async def test_a_permission_shows_the_real_input_as_it_will_run(
    api: Caller, model: MockModel
) -> None:
    command = "printf '%s\\n' \"$HOME\" | wc -c"
    script = model.script([bash(command, description="Count")], [Text("done")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        assert required["kind"] == "permission"
        payload = required["payload"]
        assert payload["tool"] == "Bash"
        assert payload["input"] == {"command": command, "description": "Count"}
        assert payload["command"] == command
        assert payload["title"]
        assert payload["display_name"]
        assert not (api.server.workdir(loop_id) / "x").exists()
        answer = await api.choose(loop_id, required["choice_id"], allow=True)
        assert answer.status_code == 202
        await stream.rest()
    assert stream.names == [
        "started", "tool_call", "requires_choice", "choice_resolved", "tool_result",
        "assistant_delta", "done",
    ]  # fmt: skip


async def test_allow_runs_the_tool_with_exactly_the_input_that_was_shown(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("echo shown > ran.txt; cat ran.txt")], [Text("done")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await api.choose(loop_id, required["choice_id"], allow=True)
        resolved = (await stream.until("choice_resolved")).data
        assert resolved == {
            "choice_id": required["choice_id"],
            "source": "api",
            "outcome": "allowed",
            "turn_id": required["turn_id"],
        }
        assert (await stream.until("tool_result")).data["ok"] is True
        await stream.rest()
    assert (api.server.workdir(loop_id) / "ran.txt").read_text() == "shown\n"
    assert "shown" in script.requests[1].tool_results()[0]


async def test_deny_tells_the_agent_and_the_turn_goes_on_to_done(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("touch ran.txt")], [Text("As you wish.")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await api.choose(loop_id, required["choice_id"], allow=False)
        assert (await stream.until("choice_resolved")).data["outcome"] == "denied"
        assert (await stream.until("tool_result")).data["ok"] is False
        assert (await stream.rest())[-1].name == "done"
    assert "User denied permission" in script.requests[1].tool_results()[0]
    assert not (api.server.workdir(loop_id) / "ran.txt").exists()


@pytest.mark.parametrize(
    ("who", "source"), [("api", "api"), ("session", "web"), ("browser", "web")]
)
async def test_the_source_says_which_kind_of_caller_resolved_it(
    api: Caller, session: Caller, browser: Caller, model: MockModel, who: str, source: str
) -> None:
    caller = {"api": api, "session": session, "browser": browser}[who]
    script = model.script([bash("true")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await caller.choose(loop_id, required["choice_id"], allow=True)
        assert (await stream.until("choice_resolved")).data["source"] == source
        await stream.rest()


async def test_questions_are_asked_with_ids_options_and_headers(
    api: Caller, model: MockModel
) -> None:
    script = model.script(
        [ask(asked("Which color?", "Red", "Blue"), asked("Which sizes?", "S", "L", multi=True))],
        [Text("thanks")],
    )
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        required = (await stream.until("requires_choice")).data
        assert required["kind"] == "question"
        color, sizes = required["payload"]["questions"]
        assert {k: v for k, v in color.items() if k != "id"} == {
            "question": "Which color?",
            "header": "Pick",
            "options": [
                {"label": "Red", "description": "about Red"},
                {"label": "Blue", "description": "about Blue"},
            ],
            "multi_select": False,
        }
        assert sizes["multi_select"] is True
        answers = {color["id"]: "Blue", "Which sizes?": ["S", "my own size"]}
        answer = await api.choose(loop_id, required["choice_id"], answers=answers)
        assert answer.status_code == 202
        resolved = (await stream.until("choice_resolved")).data
        assert (resolved["outcome"], resolved["source"]) == ("answered", "api")
        assert (await stream.until("tool_result")).data["ok"] is True
        await stream.rest()
    told = script.requests[1].tool_results()[0]
    for text in ("Blue", "S", "my own size"):
        assert text in told


@pytest.mark.parametrize(
    "mode", ["default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto"]
)
async def test_a_question_is_asked_in_every_mode(api: Caller, model: MockModel, mode: str) -> None:
    script = model.script([ask(asked("Which color?", "Red", "Blue"))], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode=mode) as stream:
        required = (await stream.until("requires_choice")).data
        assert required["kind"] == "question"
        await api.choose(loop_id, required["choice_id"], answers={"Which color?": "none of these"})
        assert (await stream.until("choice_resolved")).data["outcome"] == "answered"
        await stream.rest()
    assert "none of these" in script.requests[1].tool_results()[0]


async def test_a_wrong_shape_for_a_permission_leaves_it_pending(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("true")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        for body in ALLOW_SHAPES:
            answer = await api.choose(loop_id, choice_id, **body)
            expect(answer, 400, "invalid_choice_payload")
        path = f"/loops/{loop_id}/choices/{choice_id}"
        expect(await api.post(path, content=b"null"), 400, "invalid_json")
        expect(await api.post(path, content=b"{"), 400, "invalid_json")
        current = (await api.state(loop_id))["current_turn"]
        assert current["pending_choice_id"] == choice_id
        assert (await api.choose(loop_id, choice_id, allow=True)).status_code == 202
        await stream.rest()


async def test_a_wrong_shape_for_a_question_leaves_it_pending(
    api: Caller, model: MockModel
) -> None:
    script = model.script([ask(asked("Which color?", "Red", "Blue"))], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        for body in ANSWER_SHAPES:
            answer = await api.choose(loop_id, choice_id, **body)
            expect(answer, 400, "invalid_choice_payload")
        answer = await api.choose(loop_id, choice_id, answers={"Which color?": "Red"})
        assert answer.status_code == 202
        await stream.rest()


async def test_all_questions_are_answered_at_once(api: Caller, model: MockModel) -> None:
    script = model.script(
        [ask(asked("First?", "a", "b"), asked("Second?", "c", "d"))], [Text("ok")]
    )
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        answer = await api.choose(loop_id, choice_id, answers={"First?": "a"})
        expect(answer, 400, "invalid_choice_payload")
        both = {"First?": "a", "Second?": "d"}
        assert (await api.choose(loop_id, choice_id, answers=both)).status_code == 202
        await stream.rest()


async def test_a_choice_that_is_not_pending_here_is_choice_not_found(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("true")], [Text("ok")])
    loop_id, other = await api.loop(), await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        expect(await api.choose(other, choice_id, allow=True), 404, "choice_not_found")
        expect(await api.choose(loop_id, "choice_nope", allow=True), 404, "choice_not_found")
        assert (await api.choose(loop_id, choice_id, allow=True)).status_code == 202
        await stream.rest()
    expect(await api.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")
    await api.delete(f"/loops/{loop_id}")
    expect(await api.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")


async def test_of_two_answers_at_once_exactly_one_counts(
    api: Caller, session: Caller, model: MockModel
) -> None:
    for _ in range(10):
        script = model.script([bash("echo ran >> ran.txt")], [Text("ok")])
        loop_id = await api.loop()
        async with api.send(loop_id, script.message(), mode="default") as stream:
            choice_id = (await stream.until("requires_choice")).data["choice_id"]
            answers = await asyncio.gather(
                api.choose(loop_id, choice_id, allow=True),
                session.choose(loop_id, choice_id, allow=False),
                api.choose(loop_id, choice_id, allow=True),
            )
            assert sorted(a.status_code for a in answers) == [202, 404, 404]
            outcome = (await stream.until("choice_resolved")).data["outcome"]
            assert outcome == ("denied" if answers[1].status_code == 202 else "allowed")
            await stream.rest()


async def test_parallel_calls_that_need_asking_are_each_asked_and_each_answered(
    api: Caller, model: MockModel
) -> None:
    script = model.script(
        [bash("echo one > 1"), bash("echo two > 2"), bash("echo three > 3")], [Text("ok")]
    )
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        for allow in (True, False, True):
            required = (await stream.until("requires_choice")).data
            await api.choose(loop_id, required["choice_id"], allow=allow)
        assert (await stream.rest())[-1].name == "done"
    results = {
        e.data["tool_use_id"]: e.data["ok"] for e in stream.events if e.name == "tool_result"
    }
    calls = [e.data["tool_use_id"] for e in stream.events if e.name == "tool_call"]
    assert [results[c] for c in calls] == [True, False, True]
    assert [(api.server.workdir(loop_id) / n).exists() for n in "123"] == [True, False, True]


async def test_archiving_cancels_a_pending_choice_by_policy(api: Caller, model: MockModel) -> None:
    script = model.script([bash("touch ran.txt")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        await api.delete(f"/loops/{loop_id}")
        expect(await api.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")
        await stream.rest()
    assert cancelled(stream.events, choice_id)
    assert not (api.server.workdir(loop_id) / "ran.txt").exists()


async def test_an_interrupt_cancels_a_pending_choice_by_policy(
    api: Caller, model: MockModel
) -> None:
    script = model.script([ask(asked("Which color?", "Red", "Blue"))], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message()) as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        await api.interrupt(loop_id)
        expect(await api.choose(loop_id, choice_id, answers={}), 404, "choice_not_found")
        assert (await stream.rest())[-1].name == "interrupted"
    assert cancelled(stream.events, choice_id)


def cancelled(events: list[Event], choice_id: str) -> bool:
    (resolved,) = (e.data for e in events if e.name == "choice_resolved")
    found = (resolved["choice_id"], resolved["outcome"], resolved["source"])
    return found == (choice_id, "cancelled", "policy")


async def test_a_choice_outlives_the_connection_that_saw_it(api: Caller, model: MockModel) -> None:
    script = model.script([bash("echo yes > ran.txt")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default", key=f"k{loop_id}") as stream:
        required = await stream.until("requires_choice")
    async with api.send(loop_id, script.message(), mode="default", key=f"k{loop_id}") as again:
        assert await again.until("requires_choice") == required
        await api.choose(loop_id, required.data["choice_id"], allow=True)
        assert (await again.rest())[-1].name == "done"
    assert (api.server.workdir(loop_id) / "ran.txt").read_text() == "yes\n"


async def test_a_malformed_question_is_a_failed_tool_not_a_choice(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Tool("AskUserQuestion", {"questions": []})], [Text("sorry")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message())
    assert [e.name for e in events if e.name in {"tool_result", "requires_choice"}] == [
        "tool_result"
    ]
    assert events[-1].name == "done"
