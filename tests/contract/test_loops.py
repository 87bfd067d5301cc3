"""Loops: creating, reading, archiving."""

import asyncio
import re

import psutil
import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash
from tests.support.server import JupyterServer

LOOP = {
    "id", "title", "created_at", "created_by", "archived", "archived_at", "metadata", "profiles",
    "vault", "repo", "engine", "sandbox", "durable_choices", "folders",
}  # fmt: skip
STATE = {"busy", "queue_depth", "turn_count", "current_turn"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LOOP_ID = re.compile(r"loop_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def test_a_created_loop_says_what_it_is(session: Caller) -> None:
    loop = await session.create(title=" Analysis ", metadata={"team": "blue", "": "empty key"})
    assert LOOP <= set(loop) <= LOOP | STATE, set(loop) ^ LOOP
    assert LOOP_ID.fullmatch(loop["id"])
    assert loop["title"] == "Analysis"
    assert TIMESTAMP.fullmatch(loop["created_at"])
    assert loop["created_by"]
    assert (loop["archived"], loop["archived_at"]) == (False, None)
    assert loop["metadata"] == {"team": "blue", "": "empty key"}
    assert isinstance(loop["profiles"], list)
    assert loop["vault"] == "default"
    assert loop["repo"] is None
    assert isinstance(loop["engine"], str)
    assert loop["sandbox"] in {"bubblewrap", "landlock", "podman", "none"}
    assert loop["durable_choices"] is True
    assert loop["folders"] == []


async def test_the_body_of_a_creation_is_optional(session: Caller) -> None:
    answer = await session.post("/loops")
    assert answer.status_code == 201, answer.text
    assert answer.json()["title"] == "untitled"
    assert (await session.delete(f"/loops/{answer.json()['id']}")).status_code == 204


async def test_a_single_get_adds_the_runtime_state(session: Caller) -> None:
    created = await session.create()
    seen = await session.state(created["id"])
    assert set(seen) == LOOP | STATE | {"engine_reason", "isolation"}
    assert seen["engine_reason"]
    assert seen["isolation"]["isolates"] is (seen["sandbox"] != "none")
    assert seen["isolation"]["enforced"]
    assert all(isinstance(gap, str) for gap in seen["isolation"]["gaps"])
    assert {k: seen[k] for k in LOOP} == {k: created[k] for k in LOOP}
    assert (seen["busy"], seen["queue_depth"], seen["turn_count"]) == (False, 0, 0)
    assert seen["current_turn"] is None


async def test_busy_queue_and_current_turn_follow_the_messages(
    session: Caller, model: MockModel
) -> None:
    gate = Gate()
    first = model.script([Text("a"), Hold(gate)])
    loop_id = await session.loop()
    async with session.send(loop_id, first.message()) as running:
        started = await running.until("started")
        async with (
            session.send(loop_id, "second") as second,
            session.send(loop_id, "third") as third,
        ):
            assert (await second.event()).data == {"position": 1}
            assert (await third.event()).data == {"position": 2}
            state = await session.state(loop_id)
            assert (state["busy"], state["queue_depth"], state["turn_count"]) == (True, 2, 3)
            current = state["current_turn"]
            assert set(current) == {"turn_id", "started_at", "pending_choice_id"}
            assert current["turn_id"] == started.data["turn_id"]
            assert TIMESTAMP.fullmatch(current["started_at"])
            assert current["pending_choice_id"] is None
            gate.open()
            await asyncio.gather(running.rest(), second.rest(), third.rest())
    state = await session.state(loop_id)
    assert (state["busy"], state["queue_depth"], state["turn_count"]) == (False, 0, 3)
    assert state["current_turn"] is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"profiles": ["no-such-profile"]}, "unknown_profile"),
        ({"vault": "no-such-vault"}, "unknown_vault"),
        ({"repo": "no-such-repo"}, "unknown_repo"),
        ({"profiles": ["../../etc"]}, "unknown_profile"),
        ({"vault": "../default"}, "unknown_vault"),
        ({"repo": "/etc"}, "unknown_repo"),
        ({"profiles": [""]}, "unknown_profile"),
        ({"vault": "."}, "unknown_vault"),
    ],
)
async def test_an_unknown_profile_vault_or_repo_is_named_and_leaves_nothing_behind(
    session: Caller, server: JupyterServer, body: dict[str, object], code: str
) -> None:
    folders = sorted(p.name for p in (server.home / "loops").glob("*"))
    newest = (await session.get("/loops?limit=1&archived=true")).json()["first_id"]
    expect(await session.post("/loops", json=body), 400, code)
    assert sorted(p.name for p in (server.home / "loops").glob("*")) == folders
    assert (await session.get("/loops?limit=1&archived=true")).json()["first_id"] == newest


async def test_a_loop_takes_the_profiles_and_the_vault_it_was_given(
    session: Caller, server: JupyterServer
) -> None:
    (server.home / "profiles" / "lab").mkdir(parents=True, exist_ok=True)
    (server.home / "vaults" / "team" / "envs").mkdir(parents=True, exist_ok=True)
    loop = await session.create(profiles=["lab"], vault="team")
    assert (loop["profiles"], loop["vault"]) == (["lab"], "team")
    assert (await session.state(loop["id"]))["vault"] == "team"


async def test_archiving_keeps_the_record_and_can_be_repeated(session: Caller) -> None:
    created = await session.create(title="short life")
    await session.turn(created["id"], "hello")
    for _ in range(2):
        answer = await session.delete(f"/loops/{created['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
    seen = await session.state(created["id"])
    assert seen["archived"] is True
    assert TIMESTAMP.fullmatch(seen["archived_at"])
    assert (seen["title"], seen["turn_count"], seen["busy"]) == ("short life", 1, False)
    assert [r["role"] for r in await session.history(created["id"])] == ["user", "assistant"]


async def test_an_archived_loop_takes_no_message(session: Caller) -> None:
    loop_id = await session.loop()
    await session.delete(f"/loops/{loop_id}")
    answer = await session.post(f"/loops/{loop_id}/messages", json={"content": "hello"})
    expect(answer, 400, "loop_archived")


async def test_archiving_interrupts_the_running_turn_and_cancels_the_queue(
    session: Caller, model: MockModel
) -> None:
    script = model.script([Text("a"), Hold(Gate())])
    loop_id = await session.loop()
    async with (
        session.send(loop_id, script.message()) as running,
        session.watch(loop_id, after_seq=0) as watching,
    ):
        await running.until("assistant_delta")
        async with session.send(loop_id, "never") as queued:
            assert (await queued.event()).name == "queued"
            assert (await session.delete(f"/loops/{loop_id}")).status_code == 204
            assert (await running.rest())[-1].name == "interrupted"
            assert [e.name for e in await queued.rest()] == ["queued", "interrupted"]
        await watching.until("interrupted")
        await watching.until("interrupted")
    state = await session.state(loop_id)
    assert (state["busy"], state["queue_depth"], state["current_turn"]) == (False, 0, None)
    rows = await session.history(loop_id)
    assert [(r["role"], r["status"]) for r in rows] == [
        ("user", "interrupted"), ("assistant", "interrupted"), ("user", "cancelled"),
    ]  # fmt: skip


async def test_archiving_stops_the_sandbox(session: Caller, model: MockModel) -> None:
    script = model.script([bash("sleep 1000 & echo $!")], [Text("left running")])
    loop_id = await session.loop()
    await session.turn(loop_id, script.message(), mode="bypassPermissions")
    assert processes_of("sleep 1000") >= 1
    before = processes_of("sleep 1000")
    assert (await session.delete(f"/loops/{loop_id}")).status_code == 204
    assert processes_of("sleep 1000") == before - 1


def processes_of(command: str) -> int:
    """How many processes of this machine run exactly ``command``."""
    wanted = command.split()
    return sum(p.info["cmdline"] == wanted for p in psutil.process_iter(["cmdline"]))
