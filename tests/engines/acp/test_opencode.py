"""A real agent, offline in the sandbox, under the real domain; the model alone is scripted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.caller import Caller, Recorder
from tests.support.mock_model import Fail, Gate, Hold, MockModel, Script, Text, Thinking, Tool
from tests.support.opencode import find_opencode, section
from tests.support.server import JupyterServer, mock_provider

pytestmark = pytest.mark.slow(60)


def shell(command: str) -> Tool:
    """opencode's own tool; its names are in lower case."""
    return Tool("bash", {"command": command, "description": "a command"})


def options(program: Path) -> list[str]:
    return [
        "--LoopatExtension.engine=acp",
        "--LoopatExtension.ping_interval=1",
        f"--LoopatExtension.sandbox_read_only_paths={program.parent}",
    ]


@pytest.fixture(scope="module")
def program() -> Path:
    return find_opencode()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, model: MockModel, program: Path
) -> Iterator[JupyterServer]:
    config = {**mock_provider(model.url), "agents": {"opencode": section(program)}}
    directory = tmp_path_factory.mktemp("opencode")
    with JupyterServer(directory, model=config, options=options(program)) as running:
        yield running


@pytest.fixture(scope="module")
def api_token(server: JupyterServer) -> str:
    return str(server.mint()["token"])


@pytest.fixture
async def api(server: JupyterServer, recorder: Recorder, api_token: str) -> AsyncIterator[Caller]:
    headers = {"Authorization": f"Bearer {api_token}"}
    async with Caller(server, recorder, headers=headers) as caller:
        yield caller


def works(model: MockModel) -> Script:
    """Reads, edits and runs something."""
    return model.script(
        [Thinking("hm"), Text("I write. "), Tool("write", {"filePath": "a", "content": "hi\n"})],
        [Tool("read", {"filePath": "/workdir/a"})],
        [shell("cat a; exit 3")],
        [Text("Done.")],
    )


async def test_a_turn_with_tools(api: Caller, model: MockModel) -> None:
    script = works(model)
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message())
    assert events[-1].name == "done", events[-1]
    assert "requires_choice" not in [event.name for event in events]
    assert events[-1].data["usage"]["output_tokens"] > 0
    row = (await api.history(loop_id))[-1]
    assert row["content"] == "I write. Done."
    calls = [(call["tool"], call["ok"]) for call in row["tool_calls"]]
    assert calls == [("Write", True), ("Read", True), ("Bash", False)]
    assert "exit code 3" in row["tool_calls"][2]["result"]
    assert "hi" in script.requests[-1].tool_results()[-1]


async def test_a_provider_that_speaks_the_other_api(
    new_server, recorder: Recorder, model: MockModel, program: Path
) -> None:
    agent = section(program)
    provider = agent["env"]["OPENCODE_CONFIG_CONTENT"]["provider"]["loopat"]
    provider["npm"] = "@ai-sdk/openai-compatible"
    provider["options"]["baseURL"] = "{model_url}"
    config = {**mock_provider(model.url, api="openai"), "agents": {"opencode": agent}}
    server = new_server(model=config, options=options(program)).start()
    headers = {"Authorization": f"Bearer {server.mint()['token']}"}
    async with Caller(server, recorder, headers=headers) as api:
        script = model.script([shell("echo hi")], [Text("Done.")])
        events = await api.turn(await api.loop(), script.message())
    assert events[-1].name == "done", events[-1]
    assert script.requests[0].api == "openai"
    assert script.requests[1].tool_results() == ["hi\n"]


def test_it_is_configured_as_the_documentation_says(program: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    recipes = [
        json.loads(text) for text in re.findall(r"```json\n(.*?)```", page.read_text(), re.S)
    ]
    (recipe,) = (one["agents"]["opencode"] for one in recipes if "agents" in one)
    ours = section(program)
    assert recipe["env"] == ours["env"]
    assert recipe["asks"] is True
    assert (
        recipe["command"][2].replace("/opt/opencode/node_modules/.bin/opencode", '"$0"')
        == (ours["command"][2])
    )


async def test_in_default_everything_but_reading_is_asked(api: Caller, model: MockModel) -> None:
    script = works(model)
    loop_id = await api.loop()
    shown = []
    async with api.send(loop_id, script.message(), mode="default") as stream:
        for _ in range(2):
            asked = (await stream.until("requires_choice")).data
            shown.append(asked["payload"])
            await api.choose(loop_id, asked["choice_id"], allow=True)
            await stream.until("choice_resolved")
        await stream.rest()
    assert stream.names[-1] == "done"
    assert stream.names.count("requires_choice") == 2
    assert [payload["tool"] for payload in shown] == ["Write", "Bash"]
    assert shown[0]["input"]["content"] == "hi\n"
    assert shown[1]["command"] == "cat a; exit 3"
    assert "“Allow once”, “Always allow”, “Reject”" in shown[1]["reason"]


async def test_in_accept_edits_an_edit_in_the_workdir_runs(api: Caller, model: MockModel) -> None:
    script = model.script(
        [Tool("write", {"filePath": "/workdir/a", "content": "hi"})],
        [Tool("edit", {"filePath": "/workdir/a", "oldString": "hi", "newString": "bye"})],
        [Text("Done.")],
    )
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message(), mode="acceptEdits")
    assert "requires_choice" not in [event.name for event in events]
    assert (api.server.workdir(loop_id) / "a").read_text() == "bye"


async def test_in_plan_nothing_changes_and_the_turn_goes_on(api: Caller, model: MockModel) -> None:
    script = model.script(
        [Tool("read", {"filePath": "/workdir/old"})],
        [Tool("write", {"filePath": "/workdir/a", "content": "hi"})],
        [shell("touch b")],
        [Text("I would have.")],
    )
    loop_id = await api.loop()
    workdir = api.server.workdir(loop_id)
    (workdir / "old").write_text("old text")
    events = await api.turn(loop_id, script.message(), mode="plan")
    assert events[-1].name == "done"
    row = (await api.history(loop_id))[-1]
    assert row["content"] == "I would have."
    assert [call["ok"] for call in row["tool_calls"]] == [True, False, False]
    assert all("User denied permission" in call["result"] for call in row["tool_calls"][1:])
    assert not (workdir / "a").exists()
    assert not (workdir / "b").exists()


async def test_no_file_of_the_loop_keeps_it_from_asking(api: Caller, model: MockModel) -> None:
    """The agent could write such files itself."""
    script = model.script([shell("touch b")], [Text("ok")])
    loop_id = await api.loop()
    workdir = api.server.workdir(loop_id)
    allow = json.dumps({"permission": {"*": "allow", "bash": "allow"}})
    home = workdir.parent / "home"
    places = [workdir, workdir / ".opencode", home / ".opencode", home / ".config" / "opencode"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / "opencode.json").write_text(allow)
    events = await api.turn(loop_id, script.message(), mode="plan")
    assert events[-1].name == "done"
    assert not (workdir / "b").exists()


async def test_an_interrupt_ends_the_command_and_the_agent_goes_on(
    api: Caller, model: MockModel
) -> None:
    script = model.script([shell("touch begun; sleep 1234")], [Text("never")])
    loop_id = await api.loop()
    async with api.send(loop_id, script.message(), mode="auto") as stream:
        await stream.until("tool_call")
        began = time.monotonic()
        await api.interrupt(loop_id)
        print(f"interrupt: {(time.monotonic() - began) * 1000:.0f} ms")
        await stream.rest()
    assert stream.names[-1] == "interrupted"
    again = model.script([shell("pgrep -f 'sleep 123[4]' || echo none")], [Text("ok")])
    await api.turn(loop_id, again.message())
    assert (await api.history(loop_id))[-1]["tool_calls"][0]["result"] == "none"


async def test_the_providers_error_is_reported_without_the_key(
    api: Caller, model: MockModel
) -> None:
    script = model.script(Fail(401, "invalid x-api-key"))
    loop_id = await api.loop()
    event = (await api.turn(loop_id, script.message()))[-1]
    assert (event.name, event.data["code"]) == ("error", "agent_error")
    assert "invalid x-api-key" in event.data["message"]
    assert "key-of-the-test" not in json.dumps(event.data)
    assert (await api.turn(loop_id, "and now?"))[-1].name == "done"


async def test_after_a_restart_the_session_is_loaded(
    new_server, recorder: Recorder, model: MockModel, program: Path
) -> None:
    config = {**mock_provider(model.url), "agents": {"opencode": section(program)}}
    server = new_server(model=config, options=options(program)).start()
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
        events = await api.turn(loop_id, script.message("and now?"))
    assert [event.name for event in events] == ["started", "assistant_delta", "done"]
    sent = script.requests[2]
    assert "forty-two" in sent.whole
    assert "the server restarted" in sent.whole
    assert "this conversation began before this session" not in sent.whole
