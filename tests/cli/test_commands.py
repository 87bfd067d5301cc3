"""Commands as programs use them: JSON, exit codes, one line for each error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from loopat_jupyter.store.network_fs import file_system_type
from tests.support.mock_model import MockModel, Text
from tests.support.server import JupyterServer, mock_provider

from .conftest import COMMAND, Loopat, Outcome


def refused(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("loopat: ")
    for word in words:
        assert word in outcome.err


def test_help_names_every_command_and_exit_code_and_imports_little(loopat: Loopat):
    shown = loopat("--help")
    assert shown.code == 0
    for name in (
        "demo",
        "chat",
        "send",
        "watch",
        "network",
        "loops",
        "token",
        "doctor",
        "files",
        "put",
        "get",
        "export",
    ):
        assert f"\n  {name} " in shown.out
    codes = " " + " ".join(shown.out.split("Exit codes:")[1].split())
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "130 "):
        assert f" {code}" in codes
    code = (
        "import sys\nfrom loopat_jupyter.cli._app import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'httpx', 'rich', 'tornado', 'jupyter_server', 'pydantic', 'pydantic_ai'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", ["loops", "token"])
def test_a_group_alone_shows_its_help(loopat: Loopat, command: str):
    shown = loopat(command)
    assert shown.code == 2
    assert "Usage:" in shown.err


def test_version(loopat: Loopat):
    assert loopat("--version").out.startswith("loopat ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("send",),
        ("loops", "list", "--limit", "0"),
        ("loops", "list", "--limit", "x"),
        ("send", "x", "y", "--mode", "sudo"),
        ("--url", "nonsense", "loops", "list"),
        ("send", "x", "y", "--on-choice", "ask"),
        ("demo", "--json", "--svg", "x.svg"),
        ("chat",),
    ],
)
def test_a_wrong_command_line_is_2(loopat: Loopat, loop_id: str, arguments: tuple[str, ...]):
    arguments = tuple(loop_id if a == "x" and arguments[0] == "send" else a for a in arguments)
    refused(loopat(*arguments), 2)


@pytest.mark.slow(3)
def test_loops_are_made_listed_and_archived(loopat: Loopat):
    made = loopat("loops", "new", "for \x1b[31mlists", "--json").json
    assert made["sandbox"]
    assert made["created_at"].endswith("Z")
    listed = loopat("loops", "list", "--json").json
    assert made["id"] in [one["id"] for one in listed]
    assert "busy" not in listed[0]
    shown = loopat("loops", "list").out
    assert made["id"] in shown
    assert "for ␛[31mlists" in shown
    assert "\x1b" not in shown
    assert loopat("loops", "archive", made["id"]).out == f"archived {made['id']}\n"
    assert made["id"] not in loopat("loops", "list").out
    assert made["id"] in loopat("loops", "list", "--archived").out
    refused(loopat("send", made["id"], "hello"), 1, "archived")


@pytest.mark.slow(2)
def test_network_requests_of_a_sandbox_are_listed(loopat: Loopat):
    made = loopat("loops", "new").out.strip()
    assert loopat("network", made).out == "nothing was asked of the network\n"
    command = "!python3 -c \"import urllib.request as r; r.urlopen('http://example.org/x')\"; true"
    assert loopat("send", made, command, "--mode", "auto").code == 0
    (line,) = loopat("network", made, "--json").json
    assert (line["host"], line["port"], line["verdict"]) == ("example.org", 80, "refused")
    assert line["started_at"].endswith("Z")
    assert "allow-list" in line["reason"]
    shown = loopat("network", made).out
    assert "example.org:80" in shown
    assert "refused" in shown
    refused(loopat("network", "no such"), 1, "there is no loop")


@pytest.mark.slow(2)
def test_a_loop_is_named_by_title_or_by_the_beginning_of_its_id(loopat: Loopat):
    first = loopat("loops", "new", "by name").out.strip()
    assert loopat("send", "by name", "!echo found").code == 0
    assert loopat("send", first[:20], "!echo found").code == 0
    loopat("loops", "new", "by name")
    refused(loopat("send", "by name", "x"), 1, "2 loops match", first)
    refused(loopat("send", "no such", "x"), 1, "there is no loop")
    refused(loopat("send", "loop_" + "0" * 36, "x"), 1, "there is no loop")


def test_send_shows_the_turn_and_ends_with_its_outcome(loopat: Loopat, loop_id: str):
    done = loopat("send", loop_id, "!echo $((6 * 7))")
    assert done.code == 0
    assert "● Bash  echo $((6 * 7)) ✓" in done.out
    assert "42" in done.out
    assert "\x1b" not in done.out
    piped = loopat("send", loop_id, stdin="!echo grüße".encode())
    assert "grüße" in piped.out
    failing = loopat("send", loop_id, "!exit 3")
    assert failing.code == 0
    assert "✗" in failing.out


@pytest.mark.slow(2)
def test_send_json_is_the_events_of_the_turn(loopat: Loopat, loop_id: str):
    lines = loopat("send", loop_id, "!echo hi", "--json", "--key", "k").lines
    assert [lines[0]["event"], lines[-1]["event"]] == ["started", "done"]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    again = loopat("send", loop_id, "!echo hi", "--json", "--key", "k").lines
    assert again == lines
    refused(loopat("send", loop_id, "!echo other", "--key", "k"), 1, "key")


@pytest.mark.slow(2)
def test_a_choice_without_a_terminal_is_5_and_keeps_waiting(loopat: Loopat, loop_id: str):
    command = ("send", loop_id, "!echo hi", "--mode", "default")
    waiting = loopat(*command)
    assert waiting.code == 5
    assert "● Bash" in waiting.out
    assert "waits for a person: echo hi" in waiting.out
    assert "waits for a person" in waiting.err
    second = loopat("loops", "new").out.strip()
    command = ("send", second, "!echo hi", "--mode", "default")
    assert "denied" in loopat(*command, "--on-choice", "deny").out
    assert "hi" in loopat(*command, "--on-choice", "allow").out
    question = loopat("send", second, "ask Drink? | Tea | Coffee", "--on-choice", "allow")
    assert question.code == 5
    assert "Drink?" in question.err


@pytest.mark.slow(2)
def test_an_agents_output_cannot_control_the_terminal(loopat: Loopat, loop_id: str):
    evil = r"!printf '\033]0;owned\007\033[2J\r\302\233\342\200\256txt\177'"
    shown = loopat("send", loop_id, evil).out
    assert not {c for c in shown if ord(c) < 32 and c != "\n"}
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "␛]0;owned␇␛[2J" in shown


@pytest.mark.slow(2)
def test_messages_that_are_no_text_or_nothing_at_all(loopat: Loopat, loop_id: str):
    refused(loopat("send", loop_id, stdin=b"\xff\xfe"), 2, "UTF-8")
    refused(loopat("send", loop_id, b"\xff"), 2, "UTF-8")
    refused(loopat("send", loop_id, "  "), 1)
    refused(loopat("send", loop_id, stdin=b"x" * (1 << 20) + b"x"), 1, "1")


@pytest.mark.slow(2)
def test_no_server_is_3_and_a_wrong_token_is_4(loopat: Loopat):
    nowhere = {"LOOPAT_URL": "http://127.0.0.1:9/", "LOOPAT_TOKEN": "x"}
    refused(loopat("loops", "list", env=nowhere), 3, "127.0.0.1:9")
    refused(loopat("loops", "list", env={"LOOPAT_URL": None}), 3, "loopat demo")
    refused(loopat("loops", "list", env={"LOOPAT_URL": "nonsense"}), 3, "LOOPAT_URL")
    for token in ("wrong", "la_" + "0" * 48, ""):
        refused(loopat("loops", "list", env={"LOOPAT_TOKEN": token}), 4)


def test_a_server_of_ours_on_this_machine_is_found(loopat: Loopat, demo_server: JupyterServer):
    env = {
        "LOOPAT_URL": None,
        "LOOPAT_TOKEN": None,
        "JUPYTER_RUNTIME_DIR": str(demo_server.directory / "runtime"),
    }
    assert loopat("loops", "list", env=env).code == 0


def test_watch_replays_and_ends_with_ctrl_c(
    loopat: Loopat, environment: dict[str, str], loop_id: str
):
    loopat("send", loop_id, "!echo seen")
    watcher = subprocess.Popen(
        [*COMMAND, "watch", loop_id, "--after", "0", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    seen = []
    with watcher:
        try:
            for line in watcher.stdout:
                seen.append(json.loads(line))
                if seen[-1]["event"] == "done":
                    break
            watcher.send_signal(signal.SIGINT)
            _, err = watcher.communicate(timeout=30)
        finally:
            watcher.kill()  # one that does not end would be a warning in another test
    assert watcher.returncode == 130
    assert err == ""
    assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))


def test_a_closed_pipe_ends_the_command_without_a_message(
    environment: dict[str, str], loop_id: str
):
    sender = subprocess.Popen(
        [*COMMAND, "send", loop_id, "count 50", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sender.stdout is not None
    sender.stdout.readline()
    sender.stdout.close()
    assert sender.stderr is not None
    assert sender.stderr.read() == b""
    sender.stderr.close()
    assert sender.wait(30) == 1


@pytest.mark.slow(3)
def test_tokens_in_the_home_of_a_running_server(loopat: Loopat, demo_server: JupyterServer):
    made = loopat("token", "create", "ci", "--json").json
    assert set(made) == {"tokenId", "label", "createdAt", "token"}
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert httpx.get(f"{demo_server.api_url}/loops", headers=headers).status_code == 200
    assert loopat("loops", "list", env={"LOOPAT_TOKEN": made["token"]}).code == 0
    listed = loopat("token", "list", "--json").json
    assert made["tokenId"] == listed[0]["tokenId"]
    assert "token" not in listed[0]
    assert made["tokenId"] in loopat("token", "list").out
    assert loopat("token", "revoke", made["tokenId"]).code == 0
    assert httpx.get(f"{demo_server.api_url}/loops", headers=headers).status_code == 401
    refused(loopat("token", "revoke", made["tokenId"]), 1, "no token")
    secret = loopat("token", "create").out.strip()
    assert secret.startswith("la_")
    assert len(secret) == 51
    stored = (demo_server.home / "loopat.db").read_bytes()
    assert secret.encode() not in stored
    refused(loopat("token", "create", "x" * 101), 2, "100")


@pytest.mark.slow(2)
def test_revoking_some_of_several_tokens_says_which_were_not_there(loopat: Loopat):
    made = loopat("token", "create", "ci", "--json").json
    refused(loopat("token", "revoke", "tok_none", made["tokenId"]), 1, "tok_none")


def test_tokens_need_a_home_that_is_a_servers(loopat: Loopat, tmp_path: Path):
    refused(loopat("token", "list", "--home", str(tmp_path / "none")), 1, "no home")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "loopat.db").write_bytes(b"not a database, " * 100)
    refused(loopat("token", "list", "--home", str(broken)), 1, "cannot be used")
    assert (broken / "loopat.db").read_bytes() == b"not a database, " * 100


@pytest.mark.slow(4)
def test_doctor_reports_the_model_engine_and_sandbox_of_a_loop(
    loopat: Loopat, demo_server: JupyterServer
):
    report = loopat("doctor", "--json").json
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"] is True
    assert str(demo_server.pid) in checks["lock"]["found"]
    assert "demo/demo" in checks["model"]["found"]
    assert checks["sandbox"]["state"] in {"ok", "warning"}
    assert {"python", "packages", "home", "database", "engine", "kernel", "landlock"} <= set(checks)
    for tier in ("bubblewrap", "landlock", "podman"):
        check = checks[f"tier {tier}"]
        assert check["fix"] or not check["found"].startswith("no: "), check
    assert "memory" in checks["limits"]["found"]
    assert "to other machines" in checks["open ports"]["found"]
    assert file_system_type(demo_server.home) in checks["home"]["found"]
    assert "A loop can run here." in loopat("doctor").out


@pytest.mark.slow(4)
def test_doctor_names_file_and_line_and_changes_nothing(loopat: Loopat, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "config.json").write_text('{\n  "default": nonsense\n}')
    report = loopat("doctor", "--home", str(home), "--json")
    assert report.code == 1
    checks = {check["name"]: check for check in report.json["checks"]}
    assert checks["model"]["state"] == "bad"
    assert "line 2" in checks["model"]["found"]
    assert checks["home"]["state"] == "warning"
    assert "chmod 700" in checks["home"]["fix"]
    assert [p.name for p in home.iterdir()] == ["config.json"]
    absent = tmp_path / "absent"
    assert loopat("doctor", "--home", str(absent)).code == 0
    assert not absent.exists()


@pytest.mark.slow(8)
def test_doctor_calls_the_model_for_one_token_only_with_online(
    loopat: Loopat, model: MockModel, tmp_path: Path
):
    def online(url: str, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
        (tmp_path / "config.json").write_text(json.dumps(mock_provider(url)))
        report = loopat("doctor", "--home", str(tmp_path), "--json", *options)
        assert "key-of-the-test" not in report.out + report.err
        return report.code, {check["name"]: check for check in report.json["checks"]}

    script = model.script([Text("ok")], words="Say: ok")
    _, checks = online(model.url)
    assert "model online" not in checks
    assert checks["provider mock"]["state"] == "ok"
    assert script.requests == []
    assert online(model.url, "--online")[1]["model online"]["state"] == "ok"
    (request,) = script.requests
    assert request.body["max_tokens"] == 1
    code, checks = online("http://127.0.0.1:9", "--online")
    assert (code, checks["model online"]["state"]) == (1, "bad")
    assert "baseUrl" in checks["model online"]["fix"]


@pytest.mark.slow(5)
@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "certificates"),
        ("ALL_PROXY", "socks4://proxy.invalid:1080", "proxy for far"),
    ],
)
def test_doctor_finds_an_environment_that_no_turn_could_use(
    loopat: Loopat, tmp_path: Path, variable: str, value: str, check: str
):
    config = {
        "default": "far/m",
        "providers": {
            "far": {"api": "openai", "baseUrl": "https://far.invalid/v1", "apiKey": "k"},
            "near": {"api": "openai", "baseUrl": "http://127.0.0.1:9/v1"},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    env = {"HTTPS_PROXY": "", "https_proxy": "", variable: value}
    for options in ([], ["--online"]):
        report = loopat("doctor", "--home", str(tmp_path), "--json", *options, env=env).json
        found = {one["name"]: one for one in report["checks"]}
        assert found[check]["state"] == "bad"
        assert variable in found[check]["found"] or "socks4://" in found[check]["found"]
        assert "proxy for near" not in found


def test_a_message_with_a_dash_names_the_two_dashes(loopat: Loopat):
    assert "-- MESSAGE" in loopat("send", "some", "-dash it all").err
    assert loopat("send", "some", "--", "-dash it all").code != 2


def test_doctor_reads_the_servers_configuration(loopat: Loopat, tmp_path: Path):
    config = tmp_path / "config" / "jupyter_server_config.py"
    config.parent.mkdir()
    # A tier that is surely not to be had: its program is not in the path.
    env = {"LOOPAT_HOME": None, "PATH": str(Path(sys.executable).parent)}
    config.write_text(
        "c.LoopatExtension.sandbox = 'podman'\n"
        f"c.LoopatExtension.home = {str(tmp_path / 'elsewhere')!r}\n"
    )
    report = loopat("doctor", "--json", env=env)
    checks = {check["name"]: check for check in report.json["checks"]}
    assert report.code == 1
    assert checks["sandbox"]["state"] == "bad"
    assert "podman" in checks["sandbox"]["found"]
    assert str(tmp_path / "elsewhere") in checks["home"]["found"]
    assert "cannot run here" in loopat("doctor", env=env).out
    config.write_text("c.LoopatExtension.sandbox = (")
    checks = {check["name"]: check for check in loopat("doctor", "--json", env=env).json["checks"]}
    assert checks["configuration"]["state"] == "warning"


# --------------------------------------------------------------------------- files and transcripts


@pytest.mark.slow(3)
def test_files_are_uploaded_listed_and_downloaded(loopat: Loopat, loop_id: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello\n")
    (tmp_path / "b.txt").write_text("")
    done = loopat("put", loop_id, str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), "--to", "in")
    assert (done.code, done.out) == (0, "in/a.txt (6 bytes)\nin/b.txt (0 bytes)\n")
    listed = loopat("files", loop_id, "in", "--json").json
    assert [(row["name"], row["type"], row["size"]) for row in listed] == [
        ("a.txt", "file", 6),
        ("b.txt", "file", 0),
    ]
    assert listed[0]["modified"].endswith("Z")
    shown = loopat("files", loop_id).out.splitlines()
    assert shown[-1].split()[-2:] == ["directory", "in"]
    assert loopat("get", loop_id, "in/a.txt", "-o", "-").out == "hello\n"
    target = tmp_path / "out"
    target.mkdir()
    assert loopat("get", loop_id, "in/a.txt", "-o", str(target)).out == f"{target / 'a.txt'}\n"
    refused(loopat("get", loop_id, "in/a.txt", "-o", str(target)), 1, "--force")
    assert loopat("get", loop_id, "in/a.txt", "-o", str(target), "--force").code == 0
    assert (target / "a.txt").read_text() == "hello\n"
    refused(loopat("get", loop_id, "in/none", "-o", "-"), 1, "in/none")
    refused(loopat("get", loop_id, "../x", "-o", "-"), 2, "not a path")
    refused(loopat("put", loop_id, str(tmp_path / "none")), 1, "none")


@pytest.mark.slow(2)
def test_a_file_name_cannot_control_the_terminal(
    loopat: Loopat, loop_id: str, demo_server: JupyterServer
):
    (demo_server.workdir(loop_id) / "\x1b[2Jred\u202e\nline").touch()
    out = loopat("files", loop_id).out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 3


@pytest.mark.slow(2)
def test_export_writes_a_transcript_in_the_format_of_its_name(
    loopat: Loopat, loop_id: str, tmp_path: Path
):
    assert loopat("send", loop_id, "!echo told").code == 0
    assert "```text\ntold\n```" in loopat("export", loop_id).out
    assert loopat("export", loop_id, "--format", "json").json["turns"][0]["message"] == "!echo told"
    for name in ("a.md", "a.json", "a.ipynb"):
        done = loopat("export", loop_id, "-o", str(tmp_path / name), "--last", "1")
        assert done.out == f"{tmp_path / name}\n"
        assert "told" in (tmp_path / name).read_text()
    assert json.loads((tmp_path / "a.ipynb").read_text())["nbformat"] == 4
    refused(loopat("export", loop_id, "-o", str(tmp_path / "a.md")), 1, "--force")
    refused(loopat("export", loop_id, "--turn", "x", "--last", "1"), 2, "not both")
    refused(loopat("export", loop_id, "--turn", "turn_x"), 1, "turn")
