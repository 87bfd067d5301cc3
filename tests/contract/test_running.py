"""What a deployment may set: rate limit, idle eviction, permission mode, sandbox tier, ping."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.sandboxes.tiers import DENIED, no_landlock
from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import MockModel, Text, ask, asked, bash
from tests.support.server import JupyterServer, mock_provider
from tests.support.sse import WAIT, EventStream

pytestmark = pytest.mark.slow(12)

RATE = 20


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    """A server whose sandboxes are evicted at once, and whose programs are slowed down."""
    with JupyterServer(
        tmp_path_factory.mktemp("tuned"),
        model=mock_provider(model.url),
        options=[
            "--LoopatExtension.sandbox_idle_timeout=0.2",
            f"--LoopatExtension.rate_limit={RATE}",
            "--LoopatExtension.ping_interval=0.2",
            "--LoopatExtension.default_permission_mode=acceptEdits",
            "--LoopatExtension.token_session=True",
        ],
    ) as running:
        yield running


@pytest.fixture
async def caller(tuned: JupyterServer, recorder: Recorder) -> AsyncIterator[Caller]:
    async with Caller(tuned, recorder, headers=tuned.session) as caller:
        yield caller


def processes_of(loop_id: str) -> list[int]:
    """The processes that see the loop's folder as a mount of their own: those of its sandbox."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if loop_id in (process / "mountinfo").read_text():
                found.append(int(process.name))
        except OSError:
            continue  # it has ended meanwhile, or is none of ours
    return found


async def evicted(caller: Caller, loop_id: str) -> None:
    """Wait until nothing of the loop's sandbox is left."""
    async with asyncio.timeout(WAIT), caller.watch(loop_id) as clock:
        while processes_of(loop_id):
            await clock.until("ping")  # no event says it; look again at each ping


async def ended_by_eviction(
    caller: Caller, model: MockModel, loop_id: str, choice_id: str, stream: EventStream
) -> None:
    """What the contract has for an engine whose choices are not durable."""
    events = await stream.rest()
    resolved, _, error = events[-3:]
    told = {"choice_id": choice_id, "source": "policy", "outcome": "cancelled"}
    assert told.items() <= resolved.data.items()
    assert (error.name, error.data["code"]) == ("error", "sandbox_evicted")
    assert [e.data["ok"] for e in events if e.name == "tool_result"][-1] is False
    expect(await caller.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")
    assert (await caller.state(loop_id))["busy"] is False
    await evicted(caller, loop_id)
    script = model.script([Text("ok")])
    assert (await caller.turn(loop_id, script.message()))[-1].name == "done"


async def test_an_idle_sandbox_is_evicted_and_its_files_stay(
    caller: Caller, model: MockModel
) -> None:
    loop_id = await caller.loop()
    first = model.script([bash("echo kept > file; sleep 4324 & true")], [Text("ok")])
    await caller.turn(loop_id, first.message(), mode="auto")
    assert processes_of(loop_id)
    await evicted(caller, loop_id)
    second = model.script([bash("cat file; pgrep -x sleep || echo none")], [Text("ok")])
    events = await caller.turn(loop_id, second.message(), mode="auto")
    assert events[0].data["cold_start"] is True
    assert second.requests[1].tool_results()[-1].splitlines()[:2] == ["kept", "none"]


async def test_a_permission_is_answered_after_eviction_and_the_tool_really_runs(
    caller: Caller, model: MockModel, tuned: JupyterServer
) -> None:
    script = model.script([bash("echo before > file")], [bash("cat file > after")], [Text("done")])
    loop = await caller.create()
    loop_id = loop["id"]
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        first = (await stream.until("requires_choice")).data
        if not loop["durable_choices"]:
            await ended_by_eviction(caller, model, loop_id, first["choice_id"], stream)
            return
        await caller.choose(loop_id, first["choice_id"], allow=True)
        second = (await stream.until("requires_choice")).data
        assert processes_of(loop_id)
        await evicted(caller, loop_id)
        assert (await caller.state(loop_id))["busy"] is True
        answer = await caller.choose(loop_id, second["choice_id"], allow=True)
        assert answer.status_code == 202, answer.text
        assert (await stream.rest())[-1].name == "done"
    assert (tuned.workdir(loop_id) / "after").read_text() == "before\n"


async def test_a_question_is_answered_after_eviction(caller: Caller, model: MockModel) -> None:
    script = model.script(
        [bash("true"), ask(asked("Which color?", "Red", "Blue"))],
        [bash("echo again")],
        [Text("done")],
    )
    loop = await caller.create()
    loop_id = loop["id"]
    async with caller.send(loop_id, script.message(), mode="auto") as stream:
        choice_id = (await stream.until("requires_choice")).data["choice_id"]
        if not loop["durable_choices"]:
            await ended_by_eviction(caller, model, loop_id, choice_id, stream)
            return
        await evicted(caller, loop_id)
        await caller.choose(loop_id, choice_id, answers={"Which color?": "Red"})
        assert (await stream.rest())[-1].name == "done"
    assert [e.data["ok"] for e in stream.events if e.name == "tool_result"] == [True] * 3


async def test_a_question_about_the_network_is_answered_after_eviction(
    caller: Caller, model: MockModel
) -> None:
    reach = "import urllib.request as r; r.urlopen('http://a.test/')"
    script = model.script([bash(f'echo once >> ran; python3 -c "{reach}"')], [Text("done")])
    loop = await caller.create()
    loop_id = loop["id"]
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        first = (await stream.until("requires_choice")).data
        await caller.choose(loop_id, first["choice_id"], allow=True)
        required = (await stream.until("requires_choice")).data
        assert required["payload"]["tool"] == "Network"
        if not loop["durable_choices"]:
            await ended_by_eviction(caller, model, loop_id, required["choice_id"], stream)
            return
        await evicted(caller, loop_id)
        await caller.choose(loop_id, required["choice_id"], allow=False)
        assert (await stream.rest())[-1].name == "done"
    assert "User denied permission" in script.requests[1].whole
    assert (caller.server.workdir(loop_id) / "ran").read_text() == "once\n"


async def test_a_running_command_is_not_evicted(caller: Caller, model: MockModel) -> None:
    script = model.script([bash("sleep 1.5; echo through")], [Text("ok")])
    loop_id = await caller.loop()
    events = await caller.turn(loop_id, script.message(), mode="auto")
    assert [e.data["ok"] for e in events if e.name == "tool_result"] == [True]


async def test_an_administrators_permission_mode_is_the_default(
    caller: Caller, model: MockModel
) -> None:
    loop_id = await caller.loop()
    script = model.script([bash("true")], [Text("ok")])
    async with caller.send(loop_id, script.message()) as stream:
        required = (await stream.until("requires_choice")).data
        await caller.choose(loop_id, required["choice_id"], allow=False)
        await stream.rest()


async def test_an_administrator_can_open_the_token_routes_to_the_server_token(
    caller: Caller,
) -> None:
    made = await caller.post("/me/tokens", json={})
    assert made.status_code == 201, made.text
    assert (await caller.delete(f"/me/tokens/{made.json()['tokenId']}")).status_code == 204


async def test_a_token_over_its_rate_is_told_when_to_come_back(
    caller: Caller, tuned: JupyterServer, recorder: Recorder
) -> None:
    tokens = [tuned.mint()["token"] for _ in range(2)]
    bearers = [{"Authorization": f"Bearer {token}"} for token in tokens]
    async with Caller(tuned, recorder, headers=bearers[0]) as program:
        for _ in range(RATE):
            assert (await program.get("/loops")).status_code == 200
        answer = await program.get("/loops")
        expect(answer, 429, "too_many_requests")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    async with Caller(tuned, recorder, headers=bearers[1]) as other:
        assert (await other.get("/loops")).status_code == 200
    assert (await caller.get("/loops")).status_code == 200


# --------------------------------------------------------------------------- starting


async def test_an_administrator_may_turn_the_sandbox_off_and_then_the_default_mode_asks(
    new_server: Callable[..., JupyterServer], recorder: Recorder, model: MockModel
) -> None:
    server = new_server(options=["--LoopatExtension.sandbox=none"]).start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop = await caller.create()
        assert loop["sandbox"] == "none"
        script = model.script([bash("echo free > out.txt")], [Text("ok")])
        async with caller.send(loop["id"], script.message()) as stream:
            required = (await stream.until("requires_choice")).data
            await caller.choose(loop["id"], required["choice_id"], allow=True)
            assert (await stream.rest())[-1].name == "done"
        assert (server.workdir(loop["id"]) / "out.txt").read_text() == "free\n"
        await recorder.settle()


async def test_an_administrator_may_ask_for_landlock_and_the_loop_lists_its_gaps(
    new_server: Callable[..., JupyterServer], recorder: Recorder, model: MockModel
) -> None:
    if reason := no_landlock():
        pytest.skip(reason)
    server = new_server(options=["--LoopatExtension.sandbox=landlock"]).start()
    async with Caller(server, recorder, headers=server.session) as caller:
        loop = await caller.create()
        assert loop["sandbox"] == "landlock"
        found = (await caller.get(f"/loops/{loop['id']}")).json()["isolation"]
        assert found["isolates"] is True
        assert [gap for gap in found["gaps"] if gap.startswith("weaker than bubblewrap")]
        script = model.script([bash(f"cat {server.home}/loopat.db > out.txt 2>&1")], [Text("ok")])
        events = await caller.turn(loop["id"], script.message())
        assert events[-1].name == "done"
        seen = (server.workdir(loop["id"]) / "out.txt").read_text()
        assert DENIED.search(seen) or "No such file" in seen
        await recorder.settle()


async def test_a_home_given_by_trait_wins_over_the_environment(
    new_server: Callable[..., JupyterServer], tmp_path: Path
) -> None:
    home = tmp_path / "elsewhere"
    server = new_server(options=[f"--LoopatExtension.home={home}"])
    server.start()
    assert (home / "loopat.db").exists()
    assert home.stat().st_mode & 0o777 == 0o700
    assert not (server.home / "loopat.db").exists()


def test_the_extension_is_enabled_by_its_installation(server: JupyterServer) -> None:
    assert "loopat_jupyter | extension was successfully loaded" in server.log
    assert json.loads((server.home / "config.json").read_text())["default"] == "mock/mock-1"
