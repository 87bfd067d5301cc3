"""What a person at a terminal is shown before they allow something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loopat_jupyter.client import ChoiceRequired, RequiresChoice
from loopat_jupyter.notebook.magics._choices import policy
from loopat_jupyter.notebook.magics._errors import sentence


def asked(payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    interrupting: Any = SimpleNamespace(prompting=lambda: pytest.MonkeyPatch.context())
    decide: Any = policy("ask", lambda choice: None, interrupting)
    return decide(RequiresChoice(choice_id="choice_1", kind="permission", payload=payload))


def test_the_whole_input_is_shown_and_nothing_of_it_can_hide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"file_path": "a.sh", "content": "rm -rf ~\x1b[2K\u202e", "mode": 7}
    assert asked({"tool": "Write", "title": "Write a.sh", "input": given}, monkeypatch)
    assert capsys.readouterr().out == (
        "The agent asks to run Write: Write a.sh\n"
        "file_path: a.sh\ncontent: rm -rf ~␛[2K⟨U+202E⟩\nmode: 7\n"
    )


def test_a_command_is_shown_as_it_will_run_with_what_goes_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = {"command": "ls\nrm x"}
    asked({"tool": "Bash", "title": "Run", "input": plain, **plain}, monkeypatch)
    assert capsys.readouterr().out.endswith("Bash: Run\nls\nrm x\n")
    more = {**plain, "run_in_background": True}
    asked({"tool": "Bash", "title": "Run", "input": more, **plain}, monkeypatch)
    assert capsys.readouterr().out.endswith("command: ls\nrm x\nrun_in_background: true\n")


def test_what_an_agent_asks_has_no_power_in_an_error_either() -> None:
    request = RequiresChoice(choice_id="choice_1", kind="question", payload={"questions": []})
    error = ChoiceRequired("it waits: \x1b]52;c;eA==\x07", request)
    assert sentence(error).startswith("it waits: ␛]52;c;eA==␇ (")
