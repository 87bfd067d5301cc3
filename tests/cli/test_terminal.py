"""At a real terminal: choices are answered there, and Ctrl-C means what people expect."""

from __future__ import annotations

import json
import os
import re
import select
from pathlib import Path

import pexpect
import pytest

from loopat_jupyter.client import Client
from tests.support.server import JupyterServer

from .conftest import Loopat, Terminal, ended

PROMPT = "› "


def test_chat_streams_asks_and_remembers(terminal: Terminal):
    chat = terminal("chat", "--mode", "default")
    chat.expect("loop_")
    chat.expect(PROMPT)
    chat.sendline("!ls -a")
    chat.expect("Run a command|Bash")
    chat.expect("ls -a")
    chat.expect(r"Allow\?")
    chat.sendline("perhaps")
    chat.expect(r"Allow\?")
    chat.sendline("a")
    chat.expect("remembered")
    chat.expect("done")
    chat.expect(PROMPT)
    chat.sendline("!ls -l")
    chat.expect("Bash finished")
    chat.expect(PROMPT)
    chat.sendline("/rules")
    chat.expect("Bash ls")
    chat.expect(PROMPT)
    chat.sendline("!touch x")
    chat.expect(r"Allow\?")
    chat.sendline("n")
    chat.expect("did not run")
    chat.expect(PROMPT)
    chat.sendline("/exit")
    assert ended(chat) == 0


def test_chat_answers_questions_by_number_and_in_own_words(terminal: Terminal, loop_id: str):
    chat = terminal("chat", loop_id)
    chat.expect(PROMPT)
    for said, answer in (("2", "Coffee"), ("just water", "just water")):
        chat.sendline("ask Drink? | Tea | Coffee")
        chat.expect("1 .*Tea")
        chat.expect("2 .*Coffee")
        chat.expect("Answer")
        chat.sendline(said)
        chat.expect(f"answered: {answer}")
        chat.expect(PROMPT)
    chat.sendeof()
    assert ended(chat) == 0


def test_ctrl_c_interrupts_the_turn_and_then_leaves(terminal: Terminal, loop_id: str):
    chat = terminal("chat", loop_id)
    chat.expect(PROMPT)
    chat.sendline("count 10000")
    chat.expect("\n7\r\n")
    chat.sendintr()
    chat.expect("interrupted")
    chat.expect(PROMPT)
    chat.sendline("!echo still $((40 + 2))")
    chat.expect("still 42")
    chat.expect(PROMPT)
    chat.sendline("/mode nonsense")
    chat.expect("not a valid")
    chat.sendline("ask Drink? | Tea | Coffee")
    chat.expect("Answer")
    chat.sendintr()
    chat.expect("interrupted")
    chat.expect(PROMPT)
    chat.sendintr()
    assert ended(chat) == 0


def test_chat_prompts_for_a_choice_that_is_pending_already(
    terminal: Terminal, loopat: Loopat, loop_id: str
):
    assert loopat("send", loop_id, "ask Drink? | Tea | Coffee").code == 5
    chat = terminal("chat", loop_id)
    chat.expect("a turn is running")
    chat.expect("Drink")
    chat.expect("Answer")
    chat.sendline("1")
    chat.expect("answered: Tea")
    chat.expect(PROMPT)
    chat.sendline("/history")
    chat.expect("› .*ask Drink")
    chat.expect("answered: Tea")
    chat.sendline("/exit")
    assert ended(chat) == 0


def test_chat_with_an_archived_loop_reports_it_and_continues(
    terminal: Terminal, loopat: Loopat, loop_id: str
):
    loopat("loops", "archive", loop_id)
    chat = terminal("chat", loop_id)
    chat.expect(PROMPT)
    chat.sendline("hello")
    chat.expect("loopat: .*archived")
    chat.expect(PROMPT)
    chat.sendline("/exit")
    assert ended(chat) == 0


def test_send_asks_at_the_terminal_and_ctrl_c_ends_it_with_130(terminal: Terminal, loop_id: str):
    send = terminal("send", loop_id, "!echo yes", "--mode", "default")
    send.expect(r"Allow\?")
    send.sendline("y")
    assert ended(send) == 0
    send = terminal("send", loop_id, "count 10000")
    send.expect("\n5\r\n")
    send.sendintr()
    send.expect("interrupted")
    assert ended(send) == 130


def test_a_prompt_shows_the_whole_command_with_control_characters(terminal: Terminal, loop_id: str):
    send = terminal("send", loop_id, "!echo safe\r\x1b[2Krm -rf important", "--mode", "default")
    send.expect("Run a command|Bash")
    send.expect(r"Allow\?")
    before = send.before or ""
    assert "echo safe␍␛[2Krm -rf important" in before
    send.sendline("n")
    assert ended(send) == 0


def test_demo_once_is_a_guided_conversation(terminal: Terminal, tmp_path: Path):
    demo = terminal("demo", "--once", env={"LOOPAT_URL": None, "LOOPAT_HOME": None})
    demo.expect("I am .*demo")
    demo.expect("notes/plan.md")
    demo.expect("Answer")
    demo.sendline("2")
    demo.expect("answered: Coffee")
    demo.expect(r"Allow\?")
    demo.sendline("y")
    demo.expect("Bash finished")
    demo.expect("curl -H")
    assert ended(demo) == 0


def test_demo_without_a_terminal_decides_automatically_and_leaves_no_files(
    loopat: Loopat, tmp_path: Path
):
    (tmp_path / "tmp").mkdir()
    env = {"LOOPAT_URL": None, "LOOPAT_HOME": None, "TMPDIR": str(tmp_path / "tmp")}
    shown = loopat("demo", "--once", "--svg", "demo.svg", env=env)
    assert shown.code == 0, shown.err
    assert shown.out.count("answered automatically") == 2
    assert "\x1b" not in shown.out
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / ".loopat-demo").exists()
    svg = (tmp_path / "demo.svg").read_text()
    assert svg.startswith("<svg")
    assert str(tmp_path) not in svg
    assert "$TOKEN" in svg


def test_demo_json_for_programs(loopat: Loopat):
    shown = loopat("demo", "--once", "--json", env={"LOOPAT_URL": None, "LOOPAT_HOME": None})
    assert shown.code == 0, shown.err
    first, second, *events = shown.lines
    assert first["api_url"].startswith("http://127.0.0.1:")
    assert second["loop_id"].startswith("loop_")
    assert [e["event"] for e in events].count("done") == 6


def test_demo_runs_until_ctrl_c_and_leaves_no_process(terminal: Terminal, tmp_path: Path):
    env = {"LOOPAT_URL": None, "LOOPAT_TOKEN": None, "LOOPAT_HOME": None}
    demo = terminal("demo", "--home", str(tmp_path / "demo"), env=env)
    demo.expect("Answer")
    demo.sendline("1")
    demo.expect(r"Allow\?")
    demo.sendline("y")
    demo.expect("stop .*Ctrl-C")
    (file,) = (tmp_path / "runtime").glob("jpserver-*.json")
    info = json.loads(file.read_text())
    with Client(info["url"], info["token"]) as client:
        (loop,) = client.loops.list()
        assert loop.title == "first conversation"
    other = terminal("loops", "list", env=env)  # finds the server by itself
    other.expect("first conversation")
    assert ended(other) == 0
    demo.sendintr()
    assert ended(demo) == 0
    assert not runs(info["pid"])


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_server_of_a_killed_demo_stops(terminal: Terminal, tmp_path: Path):
    demo = terminal("demo", "--home", str(tmp_path / "demo"), env={"LOOPAT_URL": None})
    demo.expect("Answer")
    (file,) = (tmp_path / "runtime").glob("jpserver-*.json")
    pid = json.loads(file.read_text())["pid"]
    ends = os.pidfd_open(pid)
    demo.kill(9)
    readable, _, _ = select.select([ends], [], [], 30)
    os.close(ends)
    assert readable, "the server outlived the demo"


def test_demo_reports_a_home_in_use_by_the_reason_in_the_log(
    loopat: Loopat, demo_server: JupyterServer
):
    shown = loopat("demo", "--once", "--home", str(demo_server.home), env={"LOOPAT_URL": None})
    assert shown.code == 1
    assert str(demo_server.pid) in shown.err
    assert "Traceback" not in shown.out


@pytest.mark.parametrize("arguments", [("send", "x", "y"), ("chat",)])
def test_no_server_at_a_terminal(terminal: Terminal, arguments: tuple[str, ...]):
    child = terminal(*arguments, env={"LOOPAT_URL": "http://127.0.0.1:9/"})
    child.expect("loopat: no answer")
    assert ended(child) == 3


def test_untrusted_text_reaches_the_terminal_escaped(terminal: Terminal, loop_id: str):
    chat = terminal("chat", loop_id)
    chat.expect(PROMPT)
    chat.sendline(r"!printf '\033]0;owned\007'")
    chat.expect("␛]0;owned␇")
    chat.expect(PROMPT)
    assert not re.search(r"\x1b\]0;", chat.before or "")
    chat.sendline("/exit")
    chat.expect(pexpect.EOF)
