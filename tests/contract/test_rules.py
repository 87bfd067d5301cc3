"""Remembered permissions: what a rule covers, and what it never covers."""

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text, Tool, bash
from tests.support.sse import EventStream

pytestmark = pytest.mark.slow(5)


async def remembered(api: Caller, model: MockModel, tool: Tool, mode: str = "default") -> str:
    """A loop in which ``tool`` was allowed and remembered."""
    loop_id = await api.loop()
    script = model.script([tool], [Text("ok")])
    async with api.send(loop_id, script.message(), mode=mode) as stream:
        required = (await stream.until("requires_choice")).data
        answer = await api.choose(loop_id, required["choice_id"], allow=True, remember="loop")
        assert answer.status_code == 202, answer.text
        await stream.rest()
    return loop_id


async def is_asked(
    api: Caller, model: MockModel, loop_id: str, tool: Tool, mode: str = "default"
) -> bool:
    """Whether this call makes a choice; a choice is denied."""
    script = model.script([tool], [Text("ok")])
    async with api.send(loop_id, script.message(), mode=mode) as stream:
        event = await stream.until("requires_choice", "tool_result")
        if event.name == "requires_choice":
            await api.choose(loop_id, event.data["choice_id"], allow=False)
        await stream.rest()
    return event.name == "requires_choice"


async def resolution(stream: EventStream) -> dict[str, object]:
    return (await stream.until("choice_resolved")).data


async def test_a_remembered_permission_makes_a_rule_and_says_so(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    script = model.script([bash("git status --short")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await api.choose(loop_id, required["choice_id"], allow=True, remember="loop")
        rule = (await resolution(stream))["rule"]
        await stream.rest()
    assert isinstance(rule, dict)
    assert set(rule) == {"rule_id", "tool", "prefix", "scope"}
    assert (rule["tool"], rule["scope"]) == ("Bash", "loop")
    assert rule["prefix"]
    listed = (await api.get(f"/loops/{loop_id}/rules")).json()
    assert set(listed) == {"rules"}
    (entry,) = listed["rules"]
    assert set(entry) == {"rule_id", "tool", "prefix", "created_at"}
    assert {k: entry[k] for k in ("rule_id", "tool", "prefix")} == {
        k: rule[k] for k in ("rule_id", "tool", "prefix")
    }


async def test_an_answer_without_remember_makes_no_rule(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    script = model.script([bash("git status")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        await api.choose(loop_id, required["choice_id"], allow=True)
        assert "rule" not in await resolution(stream)
        await stream.rest()
    assert (await api.get(f"/loops/{loop_id}/rules")).json() == {"rules": []}
    assert await is_asked(api, model, loop_id, bash("git status"))


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("git status", False),
        ("git status --long", False),
        ("git status -s .", False),
        ("git push", True),
        ("git", True),
        ("gitk status", True),
        ("git status; rm -rf .", True),
        ("git status && id", True),
        ("git status | cat", True),
        ("git status > out", True),
        ("git status < in", True),
        ("git status $(id)", True),
        ("git status `id`", True),
        ("git status\nid", True),
        ("git status & id", True),
        ("git status {a,b}", True),
        ("X=1 git status", True),
        ("env git status", True),
        ("./git status", True),
    ],
)
async def test_a_bash_rule_covers_simple_commands_of_its_program_and_subcommand(
    api: Caller, model: MockModel, command: str, asked: bool
) -> None:
    loop_id = await remembered(api, model, bash("git status --short"))
    assert await is_asked(api, model, loop_id, bash(command)) is asked


async def test_a_command_that_is_not_simple_is_allowed_but_covers_nothing(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    script = model.script([bash("git status; id")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        answer = await api.choose(loop_id, required["choice_id"], allow=True, remember="loop")
        assert answer.status_code in {202, 400}
        if answer.status_code == 400:
            expect(answer, 400, "invalid_choice_payload")
            await api.choose(loop_id, required["choice_id"], allow=True)
        await stream.rest()
    for command in ("git status; id", "git status", "id"):
        assert await is_asked(api, model, loop_id, bash(command))


async def test_a_rule_covers_another_tool_as_a_whole_and_no_other_tool(
    api: Caller, model: MockModel
) -> None:
    write = Tool("Write", {"file_path": "a.txt", "content": "a"})
    loop_id = await remembered(api, model, write)
    (rule,) = (await api.get(f"/loops/{loop_id}/rules")).json()["rules"]
    assert (rule["tool"], rule["prefix"]) == ("Write", None)
    other = Tool("Write", {"file_path": "b.txt", "content": "b"})
    assert not await is_asked(api, model, loop_id, other)
    edit = Tool("Edit", {"file_path": "b.txt", "old_string": "b", "new_string": "c"})
    assert await is_asked(api, model, loop_id, edit)
    assert await is_asked(api, model, loop_id, bash("ls"))


async def test_a_rule_holds_in_its_own_loop_only(api: Caller, model: MockModel) -> None:
    await remembered(api, model, bash("git status"))
    assert await is_asked(api, model, await api.loop(), bash("git status"))


async def test_dont_ask_runs_what_a_rule_allows(api: Caller, model: MockModel) -> None:
    loop_id = await remembered(api, model, bash("git status"))
    script = model.script([bash("git --version")], [bash("git status")], [Text("ok")])
    events = await api.turn(loop_id, script.message(), mode="dontAsk")
    assert "requires_choice" not in [e.name for e in events]
    results = script.requests[2].tool_results()
    assert "denied" in results[-2]
    assert "denied" not in results[-1]


async def test_plan_denies_all_the_same(api: Caller, model: MockModel) -> None:
    loop_id = await remembered(api, model, bash("touch seen"))
    script = model.script([bash("touch seen again")], [Text("ok")])
    events = await api.turn(loop_id, script.message(), mode="plan")
    assert [e.data["ok"] for e in events if e.name == "tool_result"] == [False]
    assert not (api.server.workdir(loop_id) / "again").exists()


async def test_a_withdrawn_rule_is_asked_again(api: Caller, model: MockModel) -> None:
    loop_id = await remembered(api, model, bash("git status"))
    (rule,) = (await api.get(f"/loops/{loop_id}/rules")).json()["rules"]
    path = f"/loops/{loop_id}/rules/{rule['rule_id']}"
    answer = await api.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.get(f"/loops/{loop_id}/rules")).json() == {"rules": []}
    assert await is_asked(api, model, loop_id, bash("git status"))
    expect(await api.delete(path), 404, "not_found")


async def test_a_rule_of_another_loop_is_not_found(api: Caller, model: MockModel) -> None:
    loop_id = await remembered(api, model, bash("git status"))
    (rule,) = (await api.get(f"/loops/{loop_id}/rules")).json()["rules"]
    other = await api.loop()
    expect(await api.delete(f"/loops/{other}/rules/{rule['rule_id']}"), 404, "not_found")
    assert (await api.get(f"/loops/{loop_id}/rules")).json()["rules"]


async def test_remember_with_a_denial_makes_no_rule(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    script = model.script([bash("git status")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = (await stream.until("requires_choice")).data
        answer = await api.choose(loop_id, required["choice_id"], allow=False, remember="loop")
        if answer.status_code == 400:
            expect(answer, 400, "invalid_choice_payload")
            await api.choose(loop_id, required["choice_id"], allow=False)
        await stream.rest()
    assert (await api.get(f"/loops/{loop_id}/rules")).json() == {"rules": []}
