"""The engine under the real heart: asked, killed with its server, answered, gone on."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.caller import Caller, Recorder
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer

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
