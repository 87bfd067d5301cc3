"""The engine under the real domain: an answer that comes while sibling calls still run."""

from __future__ import annotations

from tests.support.caller import Caller
from tests.support.mock_model import MockModel, Text, bash


async def test_an_answer_may_come_while_a_sibling_still_runs(api: Caller, model: MockModel) -> None:
    # The first waits for a file, so it is still running when the second is answered.
    script = model.script(
        [bash("echo a >> log; until [ -e go ]; do sleep 0.05; done"), bash("echo b >> log")],
        [Text("done")],
    )
    loop_id = await api.loop()
    workdir = api.server.workdir(loop_id)
    async with api.send(loop_id, script.message(), mode="default") as stream:
        first = (await stream.until("requires_choice")).data
        await api.choose(loop_id, first["choice_id"], allow=True)
        await stream.until("choice_resolved")
        second = (await stream.until("requires_choice")).data
        assert second["payload"]["command"] == "echo b >> log"
        answer = await api.choose(loop_id, second["choice_id"], allow=True)
        assert answer.status_code == 202
        await stream.until("choice_resolved")
        (workdir / "go").write_text("")
        await stream.rest()
    assert stream.names[-1] == "done"
    assert (workdir / "log").read_text().split() == ["a", "b"]
    assert stream.names.count("tool_result") == 2
