"""Models: both dialects, retries, failures, and a configuration that changes or is broken."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.caller import Caller, Recorder
from tests.support.mock_model import Break, Fail, MockModel, Text, Thinking, Tool, bash
from tests.support.server import JupyterServer, mock_provider

pytestmark = pytest.mark.slow(10)


async def failed(api: Caller, message: str) -> dict[str, Any]:
    """The data of the ``error`` that this message's turn ends with."""
    last = (await api.turn(await api.loop(), message))[-1]
    assert last.name == "error", last
    return last.data


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_a_refusal_before_the_first_delta_is_tried_again(
    api: Caller, model: MockModel, status: int
) -> None:
    script = model.script(Fail(status), Fail(status), [Text("at last")])
    events = await api.turn(await api.loop(), script.message())
    assert [e.name for e in events] == ["started", "assistant_delta", "done"]
    assert len(script.requests) == 3


async def test_overloaded_in_the_stream_before_the_first_delta_is_tried_again(
    api: Caller, model: MockModel
) -> None:
    script = model.script([Break("overloaded_error")], [Break(None)], [Text("at last")])
    events = await api.turn(await api.loop(), script.message())
    assert [e.name for e in events] == ["started", "assistant_delta", "done"]


@pytest.mark.parametrize("error", ["overloaded_error", "api_error", None])
async def test_a_stream_that_breaks_after_text_is_an_agent_error_and_keeps_the_text(
    api: Caller, model: MockModel, error: str | None
) -> None:
    script = model.script([Text("half "), Break(error)], [Text("never")])
    loop_id = await api.loop()
    events = await api.turn(loop_id, script.message())
    assert [e.name for e in events] == ["started", "assistant_delta", "error"]
    assert events[-1].data["code"] in {"agent_error", "send_failed"}
    assert (await api.history(loop_id))[-1]["content"] == "half "
    assert (await api.turn(loop_id, "and again"))[-1].name == "done"


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_final_refusal_is_an_error_without_the_key(
    api: Caller, model: MockModel, status: int
) -> None:
    script = model.script(Fail(status, "the model says no"))
    error = await failed(api, script.message())
    assert error["code"] in {"agent_error", "send_failed"}
    assert error["message"].strip()
    assert "key-of-the-test" not in json.dumps(error)
    assert len(script.requests) == 1


async def test_the_key_goes_to_the_model_and_not_into_the_sandbox(
    api: Caller, model: MockModel
) -> None:
    script = model.script([bash("env; cat /proc/*/environ | tr '\\0' '\\n'")], [Text("ok")])
    loop_id = await api.loop()
    await api.turn(loop_id, script.message(), mode="auto")
    assert script.requests[0].headers["x-api-key"] == "key-of-the-test"
    assert "key-of-the-test" not in script.requests[1].tool_results()[0]


# --------------------------------------------------------------------------- a server of its own


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    """A server whose configuration these tests change."""
    server = JupyterServer(
        tmp_path_factory.mktemp("model"), env={"KEY_IN_ENVIRONMENT": "from-environment"}
    )
    with server as running:
        yield running


@pytest.fixture
async def caller(own: JupyterServer, recorder: Recorder) -> AsyncIterator[Caller]:
    async with Caller(own, recorder, headers=own.session) as caller:
        yield caller


@pytest.mark.builtin("the demo model is its own")
async def test_without_a_provider_the_demo_agent_answers_and_says_what_it_is(
    caller: Caller, own: JupyterServer
) -> None:
    (own.home / "config.json").unlink(missing_ok=True)
    loop_id = await caller.loop()
    async with caller.send(loop_id, "hello") as stream:
        await stream.rest()
    assert "demo" in stream.text.lower()
    assert stream.names.count("assistant_delta") > 1
    events = await caller.turn(loop_id, "!echo $((6*7)) > answer", mode="auto")
    assert [e.name for e in events if e.name.startswith("tool")] == ["tool_call", "tool_result"]
    assert (own.workdir(loop_id) / "answer").read_text() == "42\n"


@pytest.mark.builtin("the demo model is its own")
async def test_the_demo_agents_words(caller: Caller, own: JupyterServer) -> None:
    (own.home / "config.json").unlink(missing_ok=True)
    loop_id = await caller.loop()
    await caller.turn(loop_id, "write notes.txt: a line", mode="auto")
    assert (own.workdir(loop_id) / "notes.txt").read_text().strip() == "a line"
    events = await caller.turn(loop_id, "read notes.txt")
    assert [e.data["tool"] for e in events if e.name == "tool_call"] == ["Read"]
    events = await caller.turn(loop_id, "think deeply")
    assert "thinking_delta" in [e.name for e in events]
    events = await caller.turn(loop_id, "count 3")
    text = "".join(e.data["text"] for e in events if e.name == "assistant_delta")
    assert [n in text for n in "123"] == [True] * 3
    async with caller.send(loop_id, "ask Tea or coffee? | Tea | Coffee") as stream:
        required = (await stream.until("requires_choice")).data
        (question,) = required["payload"]["questions"]
        assert [o["label"] for o in question["options"]] == ["Tea", "Coffee"]
        await caller.choose(loop_id, required["choice_id"], answers={question["id"]: "Tea"})
        assert (await stream.rest())[-1].name == "done"


@pytest.mark.builtin("it speaks every API")
async def test_an_openai_provider_runs_tools_and_streams(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    own.configure_model(mock_provider(model.url, api="openai"))
    script = model.script(
        [Text("Looking. "), bash("echo one"), bash("echo two")],
        [Tool("Bash", '{"command": ')],
        [Text("Done.")],
    )
    loop_id = await caller.loop()
    async with caller.send(loop_id, script.message(), mode="auto") as stream:
        await stream.rest()
    assert stream.text == "Looking. Done."
    assert [e.data["ok"] for e in stream.events if e.name == "tool_result"] == [True, True, False]
    assert {r.api for r in script.requests} == {"openai"}
    assert script.requests[0].headers["authorization"] == "Bearer key-of-the-test"
    assert [r.strip() for r in script.requests[1].tool_results()] == ["one", "two"]
    usage = stream.events[-1].data["usage"]
    assert (usage["output_tokens"], usage["cache_read_tokens"]) == (21, 9)


@pytest.mark.builtin("it speaks every API")
async def test_an_openai_provider_streams_thinking(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    own.configure_model(mock_provider(model.url, api="openai"))
    script = model.script([Thinking("hmm"), Text("so")])
    events = await caller.turn(await caller.loop(), script.message())
    assert [e.name for e in events] == ["started", "thinking_delta", "assistant_delta", "done"]


@pytest.mark.builtin("it speaks every API")
async def test_an_openai_provider_is_tried_again_and_fails_clearly(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    own.configure_model(mock_provider(model.url, api="openai"))
    script = model.script(Fail(503), Fail(429), [Text("at last")])
    assert (await caller.turn(await caller.loop(), script.message()))[-1].name == "done"
    broken = model.script([Text("half"), Break(None)])
    assert (await failed(caller, broken.message()))["code"] in {"agent_error", "send_failed"}


@pytest.mark.builtin("it speaks every API")
async def test_a_changed_configuration_takes_effect_on_the_next_turn(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    loop_id = await caller.loop()
    for api in ("anthropic", "openai", "anthropic"):
        own.configure_model(mock_provider(model.url, api=api))
        script = model.script([Text("hello")])
        await caller.turn(loop_id, script.message())
        assert [r.api for r in script.requests] == [api]


async def test_a_key_comes_from_the_loops_vault_else_from_the_environment(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    envs = own.home / "vaults" / "team" / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    (envs / "KEY_IN_ENVIRONMENT").write_text("from-vault\n")
    own.configure_model(mock_provider(model.url, key="${KEY_IN_ENVIRONMENT}"))
    for body, key in (({"vault": "team"}, "from-vault"), ({}, "from-environment")):
        script = model.script([Text("hello")])
        await caller.turn(await caller.loop(**body), script.message())
        assert script.requests[0].headers["x-api-key"] == key


async def test_a_variable_that_is_not_set_fails_the_turn_and_is_named(
    caller: Caller, own: JupyterServer, model: MockModel
) -> None:
    own.configure_model(mock_provider(model.url, key="${NO_SUCH_KEY}"))
    error = await failed(caller, "hello")
    assert error["code"] == "agent_error"
    assert "NO_SUCH_KEY" in error["message"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n  "default": "mock/mock-1",\n  "providers": {\n', "line 4"),
        ('{\n  "default": \n  oops\n}', "line 3"),
        ("[]", "config.json"),
        ('{"providers": 5}', "providers"),
        ('{"default": "none/such", "providers": {}}', "config.json"),
        ('{"default": "m/x", "providers": {"m": {"api": "other", "baseUrl": "http://x"}}}', "api"),
    ],
)
async def test_a_broken_file_fails_the_turn_is_named_and_never_overwritten(
    caller: Caller, own: JupyterServer, text: str, line: str
) -> None:
    path = own.home / "config.json"
    path.write_text(text)
    error = await failed(caller, "hello")
    assert error["code"] == "agent_error"
    assert "config.json" in error["message"]
    assert line in error["message"]
    assert path.read_text() == text
    assert (await caller.get("/loops")).status_code == 200


async def test_a_provider_that_is_not_there_is_an_error(caller: Caller, own: JupyterServer) -> None:
    own.configure_model(mock_provider("http://127.0.0.1:9"))
    loop_id = await caller.loop()
    async with caller.send(loop_id, "hello") as stream:
        await stream.until("started")
        await caller.interrupt(loop_id)  # it is being tried again, patiently
        assert (await stream.rest())[-1].name in {"interrupted", "error"}
