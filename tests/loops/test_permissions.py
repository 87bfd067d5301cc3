"""The contract's permission table, and what a remembered rule covers."""

from __future__ import annotations

import pytest

from loopat_jupyter.loops.permissions import evaluate, is_remembered, new_rule, rule_key

#         mode                 read   edit   edit outside  other
TABLE = {
    "default": ("run", "ask", "ask", "ask"),
    "acceptEdits": ("run", "run", "ask", "ask"),
    "plan": ("run", "deny", "deny", "deny"),
    "dontAsk": ("run", "run", "deny", "deny"),
    "auto": ("run", "run", "run", "run"),
    "bypassPermissions": ("run", "run", "run", "run"),
}
CASES = (("read", False), ("edit", True), ("edit", False), ("other", False))


@pytest.mark.parametrize(
    ("mode", "kind", "inside", "expected"),
    [
        (mode, kind, inside, row[i])
        for mode, row in TABLE.items()
        for i, (kind, inside) in enumerate(CASES)
    ],
)
def test_the_contract_s_table(mode, kind, inside, expected) -> None:
    assert evaluate(mode, kind, inside_workdir=inside, remembered=False) == expected


@pytest.mark.parametrize("mode", TABLE)
def test_a_remembered_rule_runs_what_would_be_asked_but_never_in_plan(mode) -> None:
    expected = "deny" if mode == "plan" else "run"
    assert evaluate(mode, "other", inside_workdir=False, remembered=True) == expected


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("git status", "git status"),
        ("git status -s --branch", "git status"),
        ("git  'status'", "git status"),
        ("ls", "ls"),
        ("ls -la", "ls"),
        ("python3.12 --version", "python3.12 --version"),
        ("pytest tests/unit -q", "pytest tests/unit"),
        ("rm -rf build", "rm -rf build"),
        ("git -C other push", "git -C other push"),
        ("timeout 5 git push", "timeout 5 git push"),
        ("/usr/bin/env git push", "/usr/bin/env git push"),
        ("bash x.sh", "bash x.sh"),
        ("setsid git push", "setsid git push"),
        ("make clean", "make clean"),
    ],
)
def test_a_simple_command_is_known_by_program_and_subcommand(command, key) -> None:
    assert rule_key(command) == key


@pytest.mark.parametrize(
    "command",
    [
        "git status; rm -rf .",
        "git status && rm x",
        "git status | sh",
        "git status & rm x",
        "git status > x",
        "git status < x",
        "git status $(rm x)",
        "git status `rm x`",
        "git status {a,b}",
        "git status\nrm x",
        "git status\rrm x",
        "GIT_PAGER=evil git status",
        "git 'status",
        "git status \\",
        "",
        "   ",
        "echo $HOME",
        "(git status)",
        "! git status",
        "coproc git status",
        "if git status",
    ],
)
def test_what_cannot_be_read_with_certainty_has_no_key(command) -> None:
    assert rule_key(command) is None
    assert new_rule("Bash", {"command": command}) is None
    rule = new_rule("Bash", {"command": "git status"})
    assert rule is not None
    assert not is_remembered([rule], "Bash", {"command": command})


def test_a_rule_covers_its_program_and_subcommand_only() -> None:
    rule = new_rule("Bash", {"command": "git status"})
    assert rule is not None
    assert rule.prefix == "git status"
    for command, covered in {
        "git status": True,
        "git status --short": True,
        "git push": False,
        "git": False,
        "git statusx": False,
        "git -C / status": False,
        "git status -s; git push": False,
    }.items():
        assert is_remembered([rule], "Bash", {"command": command}) is covered, command


@pytest.mark.parametrize(
    ("remembered", "command", "covered"),
    [
        ("ls", "ls -la", True),
        ("ls", "ls /etc", False),
        ("ls -a", "ls -l", True),
        ("ls -la", "ls", True),
        ("php --version", "php -fevil.php", False),
        ("python3.12 --version", "python3.12 '-cimport evil'", False),
        ("python3", "python3 '-cimport evil'", False),
        ("setarch x86_64 ls", "setarch x86_64 rm", False),
    ],
)
def test_options_are_no_subcommand_but_code_in_one_is_not_covered(
    remembered, command, covered
) -> None:
    rule = new_rule("Bash", {"command": remembered})
    assert rule is not None
    assert is_remembered([rule], "Bash", {"command": command}) is covered


def test_a_rule_of_another_tool_covers_that_tool_whatever_its_input() -> None:
    rule = new_rule("Write", {"file_path": "a"})
    assert rule is not None
    assert rule.prefix is None
    assert is_remembered([rule], "Write", {"file_path": "b"})
    assert not is_remembered([rule], "Edit", {"file_path": "a"})
    assert not is_remembered([rule], "Bash", {"command": "ls"})
