"""What the agent asks before it acts, and agents that do not ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopat_jupyter.engines.acp.engine import AcpEngine
from loopat_jupyter.loops.errors import TurnFailure

from .conftest import Host, configure, processes, scripted, steps
from .test_turns import call, change, words

pytestmark = pytest.mark.slow(7)


def ask(id: str = "t1", *options: dict[str, Any], **fields: Any) -> list[Any]:
    asked = ["ask", {"toolCallId": id, "title": "Do it", **fields}]
    return [*asked, list(options)] if options else asked


RUN = {"kind": "execute", "rawInput": {"command": "make x"}}
EDIT = {"kind": "edit", "rawInput": {"file_path": "a.txt", "old_string": "a", "new_string": "b"}}


@pytest.mark.parametrize(
    ("mode", "asked", "person", "chosen"),
    [
        ("default", RUN, [True], "yes"),
        ("default", RUN, [False], "no"),
        ("default", EDIT, [True], "yes"),
        ("default", {"kind": "read"}, [], "yes"),
        ("default", {"kind": "search"}, [], "yes"),
        ("default", {"kind": "think"}, [False], "no"),
        ("default", {"kind": "of tomorrow"}, [False], "no"),
        ("default", {}, [False], "no"),
        ("acceptEdits", EDIT, [], "yes"),
        ("acceptEdits", {"kind": "delete", "locations": [{"path": "a"}]}, [False], "no"),
        ("acceptEdits", {**EDIT, "locations": [{"path": "/tmp/x"}]}, [False], "no"),
        ("acceptEdits", {"kind": "edit"}, [False], "no"),
        ("acceptEdits", RUN, [True], "yes"),
        ("plan", RUN, [], "no"),
        ("plan", EDIT, [], "no"),
        ("plan", {"kind": "read"}, [], "yes"),
        ("dontAsk", EDIT, [], "yes"),
        ("dontAsk", RUN, [], "no"),
        ("auto", RUN, [], "yes"),
        ("bypassPermissions", {}, [], "yes"),
    ],
)
async def test_the_mode_decides_then_a_person(
    engine: AcpEngine,
    host: Host,
    home: Path,
    mode: Any,
    asked: dict[str, Any],
    person: list[bool],
    chosen: str,
) -> None:
    configure(home, scripted())
    host.mode, host.person = mode, person
    end = "completed" if chosen == "yes" else "failed"
    turn = steps(call(**asked), ask(**asked), change(status=end), mode=mode)
    await engine.run(turn, host)
    assert host.visible == f"<{chosen}>"
    assert host.person == []
    ok, text = host.results["t1"]
    assert ok == (chosen == "yes")
    assert ("User denied permission" in text) == (chosen == "no")


async def test_the_person_sees_what_will_run_and_what_the_agent_offers(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode, host.person = "default", [True]
    turn = steps(
        call(kind="execute", status="pending", rawInput={"cwd": "/workdir"}),
        ask(title="Build", **RUN),
        mode="default",
    )
    await engine.run(turn, host)
    (asked,) = host.asked
    assert asked["tool"] == "Bash"
    assert asked["input"] == {"cwd": "/workdir", "command": "make x"}
    assert asked["title"] == "Build"
    assert "“Go ahead”, “Always”, “Rather not”" in asked["reason"]
    assert host.calls["t1"] == ("Bash", asked["input"])


async def test_a_call_that_was_not_announced_is_when_it_is_asked_about(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode, host.person = "default", [True]
    await engine.run(steps(ask(**RUN), mode="default"), host)
    assert host.calls == {"t1": ("Bash", {"command": "make x"})}
    assert list(host.results) == ["t1"]


async def test_a_second_question_about_a_call_is_a_choice_of_its_own(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode, host.person = "default", [True, False]
    turn = steps(
        call(status="in_progress", **RUN),
        ask(kind="other", title="Use /usr/share", rawInput={"parentDir": "/usr/share"}),
        ask(**RUN),
        change(status="failed"),
        mode="default",
    )
    await engine.run(turn, host)
    first, second = host.asked
    assert (first["id"], first["tool"]) == ("t1", "other: Use /usr/share")
    assert first["input"] == {"parent_dir": "/usr/share"}
    assert (second["id"], second["tool"]) == ("t1#2", "Bash")
    assert host.visible == "<yes><no>"
    assert host.calls == {"t1": ("Bash", {"command": "make x"})}


async def test_a_request_cannot_pass_a_command_off_as_reading(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode = "plan"
    turn = steps(call(**RUN), ask(kind="read"), change(status="failed"), mode="plan")
    await engine.run(turn, host)
    assert host.visible == "<no>"


ALWAYS = {"optionId": "ever", "name": "Always", "kind": "allow_always"}
NEVER = {"optionId": "never", "name": "Never", "kind": "reject_always"}


@pytest.mark.parametrize("person", [True, False])
async def test_always_and_never_are_not_the_agents_to_remember(
    engine: AcpEngine, host: Host, home: Path, person: bool
) -> None:
    configure(home, scripted())
    host.mode, host.person = "default", [person]
    turn = steps(ask("t1", ALWAYS, NEVER, **RUN), ["stop", "cancelled"], mode="default")
    await engine.run(turn, host)
    assert host.visible == "<cancelled>"


async def test_other_calls_go_on_while_one_waits_for_a_person(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode = "default"
    turn = steps(
        ["ask aside", {"toolCallId": "t1", **RUN}],
        call("t2", kind="read", status="completed"),
        ["text", "meanwhile"],
        mode="default",
    )
    await engine.run(turn, host)
    assert host.visible == "meanwhile"
    assert host.results["t2"][0]
    assert not host.results["t1"][0]


@pytest.mark.parametrize("mode", ["default", "acceptEdits", "plan", "dontAsk"])
async def test_an_agent_that_is_not_declared_to_ask_is_not_prompted_in_a_mode_that_needs_it(
    engine: AcpEngine, host: Host, home: Path, mode: Any
) -> None:
    configure(home, scripted(asks=False))
    with pytest.raises(TurnFailure, match=r'"asks": true'):
        await engine.run(steps(["text", "x"], mode=mode), host)
    assert host.events == []
    await engine.run(steps(["text", "x"], mode="auto"), host)
    assert host.visible == "x"


@pytest.mark.parametrize(
    ("mode", "ran", "held"),
    [
        ("plan", {"kind": "execute"}, False),
        ("default", {"kind": "edit", "locations": [{"path": "a"}]}, False),
        ("default", {}, False),
        ("acceptEdits", {"kind": "edit", "locations": [{"path": "/tmp/a"}]}, False),
        ("acceptEdits", {"kind": "edit", "locations": [{"path": "a"}]}, True),
        ("plan", {"kind": "read"}, True),
        ("plan", {"kind": "think"}, True),
        ("bypassPermissions", {"kind": "execute"}, True),
    ],
)
async def test_an_agent_that_acts_unasked_against_the_mode_is_ended(
    engine: AcpEngine, host: Host, home: Path, mode: Any, ran: dict[str, Any], held: bool
) -> None:
    configure(home, scripted())
    host.mode = mode
    turn = steps(call(status="completed", **ran), ["text", "on I go"], mode=mode)
    if held:
        await engine.run(turn, host)
        assert host.visible == "on I go"
        return
    with pytest.raises(TurnFailure, match="without asking"):
        await engine.run(turn, host)
    assert list(host.results) == ["t1"]
    assert await processes(host.sandbox_) == []


async def test_to_have_asked_about_something_else_is_not_to_have_asked(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode, host.person = "default", [True]
    turn = steps(
        call(status="in_progress", **RUN),
        ask(kind="other", title="Use /usr/share"),
        change(status="completed"),
        mode="default",
    )
    with pytest.raises(TurnFailure, match="without asking"):
        await engine.run(turn, host)


async def test_the_mode_in_which_an_agent_asks_is_set_where_it_is_wanted(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted("well", "modes", asks="careful"))
    for mode, expected in (("default", "careful"), ("plan", "careful"), ("auto", "free")):
        await engine.run(steps(["mode"], mode=mode), host)  # type: ignore[arg-type]
        assert host.visible == expected
        host.events.clear()


async def test_a_mode_that_the_agent_does_not_have_is_named(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted("well", "modes", asks="strict"))
    with pytest.raises(TurnFailure, match=r"'strict'.*Its modes: free, careful"):
        await engine.run(steps(["mode"], mode="default"), host)


async def test_words_beside_a_denial_do_not_hide_it(
    engine: AcpEngine, host: Host, home: Path
) -> None:
    configure(home, scripted())
    host.mode = "plan"
    turn = steps(ask(**RUN), change(status="completed", content=words("all done")), mode="plan")
    await engine.run(turn, host)
    ok, text = host.results["t1"]
    assert not ok
    assert "User denied permission" in text
