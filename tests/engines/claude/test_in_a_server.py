"""The engine under the real heart: asked, killed with its server, answered, gone on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.caller import Caller, Recorder
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(15)

OPTIONS = ["--LoopatExtension.engine=claude", "--LoopatExtension.ping_interval=0.5"]


async def test_a_choice_is_answered_after_a_kill_of_the_server(
    new_server: Callable[..., JupyterServer], model: MockModel, recorder: Recorder
) -> None:
    server = new_server(options=OPTIONS).start()
    script = model.script(
        [Text("Both? "), bash("echo a >> ran"), bash("echo b >> ran")], [Text("Done.")]
    )
    async with Caller(server, recorder, headers=server.session) as api:
        loop = await api.create()
        assert (loop["engine"], loop["durable_choices"]) == ("claude", True)
        async with api.send(loop["id"], script.message(), mode="default", key="k") as stream:
            stream.may_be_cut = True
            first = (await stream.until("requires_choice")).data
            server.restart()
    async with Caller(server, recorder, headers=server.session) as api:
        async with api.send(loop["id"], script.message(), mode="default", key="k") as stream:
            assert (await stream.until("requires_choice")).data == first
            await api.choose(loop["id"], first["choice_id"], allow=True)
            second = (await stream.until("requires_choice")).data
            await api.choose(loop["id"], second["choice_id"], allow=True)
            assert (await stream.rest())[-1].name == "done"
        assert stream.text == "Both? Done."
    assert (server.workdir(loop["id"]) / "ran").read_text() == "a\nb\n"
    assert len(script.requests) == 2


async def test_the_administrators_time_limit_holds_for_its_bash(
    new_server: Callable[..., JupyterServer], model: MockModel, recorder: Recorder
) -> None:
    limit = "--LoopatExtension.bash_timeout=1"
    server = new_server(options=[*OPTIONS, limit]).start()
    script = model.script([bash("sleep 600; touch over")], [Text("It was stopped.")])
    async with Caller(server, recorder, headers=server.session) as api:
        loop_id = await api.loop()
        events = await api.turn(loop_id, script.message(), mode="auto")
    assert [e.data["ok"] for e in events if e.name == "tool_result"] == [False]
    assert events[-1].name == "done"
    assert not (server.workdir(loop_id) / "over").exists()
