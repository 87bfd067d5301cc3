"""Who decides when a turn asks: policies, callables, and the caller while it iterates."""

from __future__ import annotations

import io
from typing import Any

import pytest

from loopat_jupyter import client as api
from loopat_jupyter.client import AsyncClient, Choice, ChoiceRequired, Client, RequiresChoice
from loopat_jupyter.client._choice_policy import NO_ANSWER

from .scripted_api import LOOP, QUESTION, RECORDED, TURN, ScriptedApi, refusal

URL = "http://server.test/"


def asking(kind: str = "permission") -> ScriptedApi:
    recorded = list(RECORDED)
    if kind == "question":
        recorded[4] = ("requires_choice", {"turn_id": TURN, **QUESTION})
    scripted = ScriptedApi(recorded=recorded)
    scripted.pending = "choice_1"
    return scripted


def ask(scripted: ScriptedApi, on_choice: Any) -> api.TurnResult:
    with Client(URL, transport=scripted.transport) as client:
        return client.loops.get(LOOP).ask("hi", on_choice=on_choice)


def test_a_result_holds_the_whole_turn():
    result = ask(asking(), "allow")
    assert result.text == "Grüße, \u2028 done."
    assert str(result) == result.text
    assert result.thinking == "hm"
    assert result.tool_calls == [api.TurnToolCall("t1", "Bash", "ls", True)]
    assert [(c.request.choice_id, c.outcome) for c in result.choices] == [("choice_1", "allowed")]
    assert result.usage == api.Usage(input_tokens=3, output_tokens=5)
    assert result.turn_id == TURN
    assert "**Bash**" in result._repr_markdown_()
    assert dict(list(result.__rich_repr__())[:1]) == {"status": "done"}


def test_a_result_has_displays_for_notebooks_and_terminals():
    from IPython.core.formatters import DisplayFormatter
    from rich.console import Console

    result = ask(asking(), "allow")
    shown, _ = DisplayFormatter(active_types=["text/plain", "text/markdown"]).format(result)
    markdown = "Grüße, ⟨U+2028⟩ done.\n\n- ✓ **Bash** <code>ls</code>"
    assert shown["text/markdown"] == markdown
    assert shown["text/plain"] == repr(result)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(result)
    printed = console.export_text()
    for part in ("TurnResult", "status='done'", "TurnToolCall", "output_tokens=5"):
        assert part in printed, part


def test_a_result_is_one_line_of_code_for_each_tool_whatever_its_input_holds():
    recorded = list(RECORDED)
    summary = "echo `x` ``\n# <script>alert(1)</script>"
    recorded[3] = ("tool_call", {**RECORDED[3][1], "input_summary": summary})
    scripted = ScriptedApi(recorded=recorded)
    scripted.pending = "choice_1"
    last = ask(scripted, "allow")._repr_markdown_().splitlines()[-1]
    summary = "echo &#96;x&#96; &#96;&#96; &#35; &#60;script&#62;alert(1)&#60;/script&#62;"
    assert last == f"- ✓ **Bash** <code>{summary}</code>"


def test_by_default_a_choice_fails_and_the_turn_keeps_waiting():
    scripted = asking()
    with pytest.raises(ChoiceRequired) as error:
        ask(scripted, "fail")
    assert error.value.request.command == "ls"
    assert scripted.answers == []
    assert scripted.pending == "choice_1"


@pytest.mark.parametrize(
    ("kind", "on_choice", "body"),
    [
        ("permission", "allow", {"allow": True}),
        ("permission", "deny", {"allow": False}),
        ("permission", lambda c: True, {"allow": True}),
        ("permission", lambda c: "deny", {"allow": False}),
        ("permission", lambda c: c.allow(remember="loop"), {"allow": True, "remember": "loop"}),
        ("permission", lambda c: c.deny(), {"allow": False}),
        ("question", "deny", {"answers": {"q1": NO_ANSWER}}),
        ("question", lambda c: "B", {"answers": {"q1": "B"}}),
        ("question", lambda c: {"q1": "A"}, {"answers": {"q1": "A"}}),
        ("question", lambda c: c.answer(["A", "B"]), {"answers": {"q1": ["A", "B"]}}),
    ],
)
def test_policies_and_callables(kind: str, on_choice: Any, body: Any):
    scripted = asking(kind)
    assert ask(scripted, on_choice).status == "done"
    assert scripted.answers == [body]


@pytest.mark.parametrize(
    ("kind", "on_choice"),
    [("question", "allow"), ("permission", lambda c: None), ("question", lambda c: None)],
)
def test_a_policy_without_a_decision_raises_and_does_not_hang(kind: str, on_choice: Any):
    with pytest.raises(ChoiceRequired):
        ask(asking(kind), on_choice)


def test_the_policy_wait_sends_nothing():
    scripted = asking()
    assert ask(scripted, "wait").status == "done"
    assert ask(asking(), lambda c: "wait").status == "done"
    assert scripted.answers == []


def test_an_invalid_policy_is_rejected_before_anything_is_sent():
    scripted = asking()
    with pytest.raises(ValueError, match="on_choice"):
        ask(scripted, "perhaps")
    assert scripted.streams() == []


def test_the_caller_may_decide_while_iterating():
    scripted = asking()
    with Client(URL, transport=scripted.transport) as client:
        loop = client.loops.get(LOOP)
        for event in loop.send("hi"):
            if isinstance(event, RequiresChoice):
                choice = loop.choice(event)
                assert isinstance(choice, Choice)
                assert (choice.tool, choice.command, choice.input) == (
                    "Bash",
                    "ls",
                    {"command": "ls"},
                )
                choice.allow()
    assert scripted.answers == [{"allow": True}]


def test_a_choice_that_is_resolved_already_is_not_decided_again():
    scripted = asking()
    scripted.pending = None
    assert ask(scripted, "fail").status == "done"
    assert scripted.answers == []


def test_a_choice_resolved_by_another_client_is_no_error_but_a_callables_own_is():
    scripted = asking()
    gone = refusal(404, "not_found_error", "choice_not_found", "not pending")
    path = f"loops/{LOOP}/choices/choice_1"
    scripted.special["POST", path] = [gone]
    assert ask(scripted, "allow").status == "done"
    scripted.special["POST", path] = [gone]
    scripted.pending = "choice_1"
    with pytest.raises(api.NotFoundError):
        ask(scripted, lambda choice: choice.allow())


def test_failed_and_interrupted_turns_raise_with_their_result():
    failed = [*RECORDED[:3], ("error", {"turn_id": TURN, "code": "agent_error", "message": "no"})]
    with pytest.raises(api.TurnFailed) as error:
        ask(ScriptedApi(recorded=failed), "fail")
    assert error.value.code == "agent_error"
    assert error.value.result.thinking == "hm"
    ended = [*RECORDED[:2], ("interrupted", {"turn_id": TURN})]
    with pytest.raises(api.TurnInterrupted):
        ask(ScriptedApi(recorded=ended), "fail")


async def test_the_asyncio_client_takes_coroutines_and_plain_functions():
    async def decide(choice: api.AsyncChoice) -> None:
        await choice.allow()

    for on_choice in (decide, lambda choice: True, "allow"):
        scripted = asking()
        async with AsyncClient(URL, transport=scripted.transport) as client:
            loop = await client.loops.get(LOOP)
            result = await loop.ask("hi", on_choice=on_choice)  # type: ignore[arg-type]
        assert result.status == "done"
        assert scripted.answers == [{"allow": True}]
