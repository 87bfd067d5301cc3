"""The permission table: every mode against reads, edits, Bash, and edits outside the workdir."""

import pytest

from tests.support.caller import Caller
from tests.support.mock_model import MockModel, Text, Tool, bash

pytestmark = pytest.mark.slow(12)

RUN, ASK, DENY = "run", "ask", "deny"
MODES = ["default", "acceptEdits", "plan", "dontAsk", "auto", "bypassPermissions"]

READ = {
    "Read": Tool("Read", {"file_path": "seed.txt"}),
    "Glob": Tool("Glob", {"pattern": "*.txt"}),
    "Grep": Tool("Grep", {"pattern": "seed"}),
}
EDIT = {
    "Write": Tool("Write", {"file_path": "out.txt", "content": "written"}),
    "Edit": Tool("Edit", {"file_path": "seed.txt", "old_string": "seed", "new_string": "changed"}),
}
BASH = {"ls": bash("ls"), "touch": bash("touch made.txt")}
OUTSIDE = {
    "absolute": Tool("Write", {"file_path": "/tmp/out.txt", "content": "x"}),
    "dots": Tool("Write", {"file_path": "../../../tmp/out.txt", "content": "x"}),
    "symlink": Tool("Write", {"file_path": "exit/out.txt", "content": "x"}),
}
TABLE = {
    "default": {"read": RUN, "edit": ASK, "bash": ASK, "outside": ASK},
    "acceptEdits": {"read": RUN, "edit": RUN, "bash": ASK, "outside": ASK},
    "plan": {"read": RUN, "edit": DENY, "bash": DENY, "outside": DENY},
    "dontAsk": {"read": RUN, "edit": RUN, "bash": DENY, "outside": DENY},
    "auto": {"read": RUN, "edit": RUN, "bash": RUN, "outside": RUN},
    "bypassPermissions": {"read": RUN, "edit": RUN, "bash": RUN, "outside": RUN},
}
KINDS = {"read": READ, "edit": EDIT, "bash": BASH, "outside": OUTSIDE}
CASES = [(mode, kind, name) for mode in MODES for kind, tools in KINDS.items() for name in tools]


@pytest.mark.parametrize(("mode", "kind", "name"), CASES)
async def test_the_table(api: Caller, model: MockModel, mode: str, kind: str, name: str) -> None:
    loop_id = await api.loop()
    seed = model.script([bash("echo seed > seed.txt; ln -s /tmp exit")], [Text("ready")])
    await api.turn(loop_id, seed.message(), mode="bypassPermissions")
    script = model.script([KINDS[kind][name]], [Text("ok")])
    async with api.send(loop_id, script.message(), mode=mode) as stream:
        event = await stream.until("requires_choice", "tool_result")
        if event.name == "requires_choice":
            assert event.data["payload"]["tool"] == KINDS[kind][name].name
            await api.choose(loop_id, event.data["choice_id"], allow=False)
        await stream.rest()
    told = script.requests[1].tool_results()[-1]
    ran = RUN if event.data.get("ok") else DENY
    outcome = ASK if event.name == "requires_choice" else ran
    assert outcome == TABLE[mode][kind], told
    if outcome == DENY:
        assert "denied" in told
    assert stream.events[-1].name == "done"


async def test_the_mode_is_for_one_turn_only(api: Caller, model: MockModel) -> None:
    loop_id = await api.loop()
    for mode, expected in (("plan", False), (None, True), ("plan", False), (None, True)):
        script = model.script([bash("true")], [Text("ok")])
        events = await api.turn(loop_id, script.message(), mode=mode)
        assert [e.data["ok"] for e in events if e.name == "tool_result"] == [expected]


async def test_a_sandbox_that_isolates_makes_bypass_permissions_the_default(
    api: Caller, model: MockModel
) -> None:
    loop = await api.create()
    assert loop["sandbox"] == "bubblewrap"
    script = model.script([bash("echo free > out.txt")], [Text("ok")])
    events = await api.turn(loop["id"], script.message())
    assert "requires_choice" not in [e.name for e in events]


@pytest.mark.builtin("other agents write files themselves")
async def test_an_edit_that_was_allowed_in_the_workdir_cannot_be_led_out_of_it(
    api: Caller, model: MockModel
) -> None:
    loop_id = await api.loop()
    swap = bash("mkdir -p d; (while :; do rm -rf d; ln -s /tmp d; rm d; mkdir d; done) & echo $!")
    await api.turn(loop_id, model.script([swap], [Text("go")]).message(), mode="auto")
    writes = [Tool("Write", {"file_path": "d/escaped.txt", "content": "x"}) for _ in range(20)]
    script = model.script(writes, [bash("ls /tmp; kill %1")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="acceptEdits") as stream:
        while True:
            event = await stream.until("requires_choice", "done")
            if event.name == "done":
                break
            await api.choose(loop_id, event.data["choice_id"], allow=False)
        await stream.rest()
    look = model.script([bash("ls -a /tmp")], [Text("ok")])
    await api.turn(loop_id, look.message(), mode="auto")
    assert "escaped.txt" not in look.requests[1].tool_results()[-1]
