"""The engine under the real domain, with the small agent and the scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.acp_agent import section
from tests.support.caller import Caller, Recorder
from tests.support.mock_model import Fail, Gate, Hold, MockModel, Text, Thinking, Tool, bash
from tests.support.server import JupyterServer, mock_provider

pytestmark = pytest.mark.slow(12)

OPTIONS = ["--LoopatExtension.engine=acp", "--LoopatExtension.ping_interval=1"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    config = {**mock_provider(model.url), "agents": {"small": section()}}
    directory = tmp_path_factory.mktemp("acp")
    with JupyterServer(directory, model=config, options=OPTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def api_token(server: JupyterServer) -> str:
    return str(server.mint()["token"])


@pytest.fixture
async def api(server: JupyterServer, recorder: Recorder, api_token: str) -> AsyncIterator[Caller]:
    headers = {"Authorization": f"Bearer {api_token}"}
    async with Caller(server, recorder, headers=headers) as caller:
        yield caller


async def test_a_turn_with_tools(api: Caller, model: MockModel) -> None:
    script = model.script(
        [Thinking("well"), Text("I write. "), Tool("Write", {"file_path": "a", "content": "hi"})],
        [bash("cat a; echo $MODEL_KEY | cut -c1-6; exit 3")],
        [Text("Done.")],
    )
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message())
    assert [e.name for e in events] == [
        "started", "thinking_delta", "assistant_delta", "tool_call", "tool_result",
        "tool_call", "tool_result", "assistant_delta", "done",
    ]  # fmt: skip
    assert events[-1].data["usage"]["input_tokens"] == 30
    assert (api.server.workdir(loop_id) / "a").read_text() == "hi"
    calls = (await api.history(loop_id))[-1]["tool_calls"]
    assert [(c["tool"], c["ok"]) for c in calls] == [("Write", True), ("Bash", False)]
    assert calls[1]["result"] == "hiloopat\nexit code 3"
    assert (await api.state(loop_id))["engine"] == "acp"
    assert (await api.state(loop_id))["durable_choices"] is False


async def test_the_conversation_goes_on(api: Caller, model: MockModel) -> None:
    script = model.script([Text("forty-two")], [Text("as I said")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message("what?"))
    await api.turn(loop_id, script.message("again?"))
    assert "forty-two" in script.requests[1].whole
    assert script.requests[1].user_texts()[-1].startswith("again?")


async def test_a_permission_is_a_choice_and_is_remembered(api: Caller, model: MockModel) -> None:
    script = model.script([bash("git status")], [bash("git status --short")], [Text("ok")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="default") as stream:
        asked = (await stream.until("requires_choice")).data
        assert asked["payload"]["command"] == "git status"
        assert "“Allow once”" in asked["payload"]["reason"]
        await api.choose(loop_id, asked["choice_id"], allow=True, remember="loop")
        await stream.rest()
    assert stream.names.count("requires_choice") == 1
    assert stream.names[-1] == "done"


async def test_a_denial_reaches_the_agent_and_the_turn_goes_on(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("touch made")], [Text("as you wish")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="plan")
    assert [e.name for e in events][-1] == "done"
    assert "User denied permission" in script.requests[1].tool_results()[0]
    assert not (api.server.workdir(loop_id) / "made").exists()


async def test_an_interrupt_ends_the_command(api: Caller, model: MockModel) -> None:
    script = model.script([bash("sleep 1234; touch late")], [Text("never")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="auto") as stream:
        await stream.until("tool_call")
        await api.interrupt(loop_id)
        await stream.rest()
    assert stream.names[-1] == "interrupted"
    again = model.script([bash("pgrep -f 'sleep 123[4]' || echo none")], [Text("ok")])
    await api.turn(loop_id, again.message())
    assert (await api.history(loop_id))[-1]["tool_calls"][0]["result"] == "none"


async def test_the_providers_error_is_reported_without_the_key(
    api: Caller, model: MockModel
) -> None:
    script = model.script(Fail(401, "invalid x-api-key"))
    event = (await api.turn(await api.loop(), script.message()))[-1]
    assert (event.name, event.data["code"]) == ("error", "agent_error")
    assert "invalid x-api-key" in event.data["message"]
    assert "key-of-the-test" not in json.dumps(event.data)


async def test_a_provider_that_cannot_be_reached_is_reported_and_the_loop_goes_on(
    api: Caller, model: MockModel
) -> None:
    there = json.loads((api.server.home / "config.json").read_text())
    gone = json.loads(json.dumps(there).replace(model.url, "http://127.0.0.1:9"))
    loop_id = await api.loop()
    api.server.configure_model(gone)
    try:
        event = (await api.turn(loop_id, "hello"))[-1]
    finally:
        api.server.configure_model(there)
    assert (event.name, event.data["code"]) == ("error", "agent_error")
    assert "refused" in event.data["message"]
    assert "\n" not in event.data["message"]
    script = model.script([Text("here")])
    assert (await api.turn(loop_id, script.message()))[-1].name == "done"


TRIES = """
import os, urllib.error, urllib.request
def ask():
    request = urllib.request.Request(
        os.environ["MODEL_URL"] + "/v1/models", headers={"x-api-key": os.environ["MODEL_KEY"]}
    )
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).status
    except urllib.error.HTTPError as error:
        return error.code
os.mkfifo("go"), os.mkfifo("tried")
during = ask()
open("ready", "w").close()
open("go").read()
open("tried", "w").write(f"{during} {ask()}")
"""


async def test_the_model_is_out_of_reach_between_turns(api: Caller, model: MockModel) -> None:
    script = model.script(
        [Tool("Write", {"file_path": "try.py", "content": TRIES})],
        [bash("python3 try.py > /dev/null 2>&1 & until [ -e ready ]; do sleep 0.05; done")],
        [Text("ok")],
    )
    loop_id = await api.loop()
    workdir = api.server.workdir(loop_id)
    await api.turn(loop_id, script.message())
    await asyncio.to_thread((workdir / "go").write_text, "go")
    # The mock has no such page, which shows that the first request came through to it.
    assert await asyncio.to_thread((workdir / "tried").read_text) == "404 403"


async def test_after_a_restart_the_session_is_loaded(
    new_server, recorder: Recorder, model: MockModel
) -> None:
    config = {**mock_provider(model.url), "agents": {"small": section()}}
    server = new_server(model=config, options=OPTIONS).start()
    gate = Gate()
    script = model.script([Text("forty-two")], [Text("half"), Hold(gate)], [Text("yes")])
    headers = {"Authorization": f"Bearer {server.mint()['token']}"}
    async with Caller(server, recorder, headers=headers) as api:
        loop_id = await api.loop()
        await api.turn(loop_id, script.message("what?"))
        async with api.send(loop_id, script.message("more?")) as stream:
            await stream.until("assistant_delta")
            server.kill()
        gate.open()
        server.start()
        await api.turn(loop_id, script.message("and now?"))
    sent = script.requests[2]
    assert sent.user_texts()[0].startswith("[loopat: what holds in this loop")
    assert "forty-two" in sent.whole
    assert "the server restarted" in sent.whole
