"""Hosts that may be reached are reached: by a profile, a preset, the person's word, a rule.

The server of these tests takes names below ``test`` for this machine, and this machine for the
internet; nothing of the tests goes anywhere else.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import MockModel, Script, Text, Tool, bash
from tests.support.server import JupyterServer, mock_provider
from tests.support.sse import EventStream

pytestmark = pytest.mark.slow(10)

CONFIG = """
from loopat_jupyter.sandboxes.proxy import dialer, server


async def _resolve(host, port):
    if not host.endswith(".test"):
        raise OSError("no such name")
    return ["127.0.0.1"]


server.Dialer = lambda: dialer.Dialer(_resolve, lambda address: address == "127.0.0.1")
"""

GET = """
import sys, urllib.error, urllib.request
for target in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(f"http://{target}/").read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
"""


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"from outside")

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """A web server outside; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    with JupyterServer(
        tmp_path_factory.mktemp("online"),
        model=mock_provider(model.url),
        options=["--LoopatExtension.ping_interval=1"],
        config=CONFIG,
    ) as running:
        yield running


@pytest.fixture
async def callers(online: JupyterServer, recorder: Recorder) -> AsyncIterator[Callable[[], Caller]]:
    """Makes callers; a connection does not survive its server."""
    async with contextlib.AsyncExitStack() as stack:

        def make() -> Caller:
            one = Caller(online, recorder, headers=online.session)
            stack.push_async_callback(one.http.aclose)
            return one

        yield make


@pytest.fixture
async def caller(callers: Callable[[], Caller]) -> Caller:
    return callers()


def profile(server: JupyterServer, name: str, *allow: str, text: str | None = None) -> str:
    path = server.home / "profiles" / name / "network.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"allow": allow}) if text is None else text)
    return name


async def loop(api: Caller, *profiles: str) -> str:
    """A loop with ``get.py`` in its workdir."""
    loop_id = await api.loop(profiles=list(profiles))
    (api.server.workdir(loop_id) / "get.py").write_text(GET)
    return loop_id


def get(*targets: str) -> Tool:
    return bash(f"python3 get.py {' '.join(targets)}")


async def audit(api: Caller, loop_id: str, **params: Any) -> dict[str, Any]:
    answer = await api.get(f"/loops/{loop_id}/network", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    assert set(page) == {"data", "has_more", "last_id"}
    return page


def told(script: Script, request: int = -1) -> str:
    """What the agent was told about its last call."""
    return script.requests[request].tool_results()[-1]


async def choice(stream: EventStream) -> dict[str, Any]:
    return (await stream.until("requires_choice")).data


def asked_for(required: dict[str, Any]) -> tuple[str, int]:
    payload = required["payload"]
    assert required["kind"] == "permission"
    assert (payload["tool"], payload["display_name"]) == ("Network", "Network")
    assert payload["title"] == f"Reach {payload['input']['host']}:{payload['input']['port']}"
    assert "allow-list" in payload["reason"]
    assert "command" not in payload
    return payload["input"]["host"], payload["input"]["port"]


# ------------------------------------------------------------------ by a profile


async def test_what_a_profile_allows_is_let_through_and_a_change_counts_at_the_next_turn(
    caller: Caller, model: MockModel, online: JupyterServer, web: int
) -> None:
    loop_id = await loop(caller, profile(online, "some", f"*.some.test:{web}"))
    script = model.script([get(f"a.some.test:{web}", f"some.test:{web}")], [Text("ok")])
    await caller.turn(loop_id, script.message(), mode="auto")
    assert "from outside" in told(script)
    assert f"some.test:{web} is not on the allow-list" in told(script)
    profile(online, "some", f"some.test:{web}")
    script = model.script([get(f"a.some.test:{web}", f"some.test:{web}")], [Text("ok")])
    await caller.turn(loop_id, script.message(), mode="auto")
    assert "from outside" in told(script)
    assert f"a.some.test:{web} is not on the allow-list" in told(script)
    assert f"reach only: some.test:{web}" in script.requests[0].whole


async def test_a_preset_of_config_json_is_let_through(
    caller: Caller, model: MockModel, online: JupyterServer, web: int
) -> None:
    config = mock_provider(model.url)
    online.configure_model({**config, "network": {"presets": {"ours": [f"preset.test:{web}"]}}})
    try:
        loop_id = await loop(caller, profile(online, "preset", "ours"))
        script = model.script([get(f"preset.test:{web}")], [Text("ok")])
        await caller.turn(loop_id, script.message(), mode="auto")
        assert "from outside" in told(script)
    finally:
        online.configure_model(config)


async def test_a_broken_allow_list_fails_the_turn_and_says_where(
    caller: Caller, model: MockModel, online: JupyterServer
) -> None:
    loop_id = await loop(caller, profile(online, "broken", text='{"allow":\n["a.test"'))
    script = model.script([Text("never")])
    last = (await caller.turn(loop_id, script.message()))[-1]
    assert (last.name, last.data["code"]) == ("error", "agent_error")
    assert "profiles/broken/network.json, line 2" in last.data["message"]
    assert script.requests == []
    profile(online, "broken")
    assert (await caller.turn(loop_id, script.message()))[-1].name == "done"


# ------------------------------------------------------------------ by a person's word


async def allow_all(
    api: Caller, loop_id: str, stream: EventStream, **more: Any
) -> list[dict[str, Any]]:
    """Allow whatever is asked until the turn ends; the choices about the network."""
    reached = []
    while not (event := await stream.event()).terminal:
        if event.name == "requires_choice":
            about = event.data["payload"]["tool"] == "Network"
            reached += [event.data] * about
            body = {"allow": True, **(more if about else {})}
            answer = await api.choose(loop_id, event.data["choice_id"], **body)
            assert answer.status_code == 202, answer.text
    assert event.name == "done", event
    return reached


async def test_a_new_host_is_a_choice_and_allowing_it_lets_the_agent_there(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    script = model.script([get(f"A.test.:{web}")], [get(f"a.test:{web}")], [Text("ok")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        (required,) = await allow_all(caller, loop_id, stream)
    assert asked_for(required) == ("a.test", web)
    if "from outside" not in told(script, 1):  # an engine that holds its tools needs no second try
        assert f"The user allowed a.test:{web}" in script.requests[1].whole
    assert "from outside" in told(script, 2)
    script = model.script([get(f"a.test:{web}")], [Text("ok")])  # that was for one turn
    await caller.turn(loop_id, script.message(), mode="auto")
    assert "403" in told(script)


async def test_a_host_that_is_denied_is_not_reached_and_the_agent_is_told(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    script = model.script([get(f"a.test:{web}")], [Text("As you wish.")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        await caller.choose(loop_id, (await choice(stream))["choice_id"], allow=True)
        required = await choice(stream)
        assert (await caller.state(loop_id))["current_turn"]["pending_choice_id"] == required[
            "choice_id"
        ]
        await caller.choose(loop_id, required["choice_id"], allow=False)
        assert (await stream.rest())[-1].name == "done"
    assert "from outside" not in script.requests[1].whole
    assert "User denied permission" in script.requests[1].whole


async def test_many_hosts_at_once_are_asked_about_one_after_the_other_and_not_without_end(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    names = " ".join(f"h{number}.test:{web}" for number in range(12))
    many = bash(f"for one in {names}; do python3 get.py $one & done; wait")
    script = model.script([many], [Text("ok")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        pending, asked = None, 0
        while not (event := await stream.event()).terminal:
            if event.name == "requires_choice":
                assert pending is None
                asked += event.data["payload"]["tool"] == "Network"
                pending = event.data["choice_id"]
                await caller.choose(loop_id, pending, allow=True)
            elif event.name == "choice_resolved":
                assert event.data["choice_id"] == pending
                pending = None
        assert event.name == "done"
    assert asked == 5


async def test_an_interrupt_ends_a_question_about_the_network(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    script = model.script([get(f"a.test:{web}")], [Text("never")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        await caller.choose(loop_id, (await choice(stream))["choice_id"], allow=True)
        choice_id = (await choice(stream))["choice_id"]
        await caller.interrupt(loop_id)
        events = await stream.rest()
    (resolved,) = [e.data for e in events if e.data.get("choice_id") == choice_id][1:]
    assert (resolved["outcome"], resolved["source"]) == ("cancelled", "policy")
    assert events[-1].name == "interrupted"
    expect(await caller.choose(loop_id, choice_id, allow=True), 404, "choice_not_found")
    script = model.script([get(f"a.test:{web}")], [Text("ok")])
    await caller.turn(loop_id, script.message(), mode="auto")
    assert "403" in told(script)


async def test_what_runs_on_after_the_turn_is_refused_and_nobody_is_asked(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    later = f"(until [ -e go ]; do sleep 0.05; done; python3 get.py a.test:{web} > out; touch over)"
    script = model.script([bash(f"{later} > log 2>&1 &")], [Text("ok")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        await caller.choose(loop_id, (await choice(stream))["choice_id"], allow=True)
        assert (await stream.rest())[-1].name == "done"
    workdir = caller.server.workdir(loop_id)
    (workdir / "go").touch()
    async with caller.watch(loop_id) as clock:
        while not (workdir / "over").exists():
            await clock.until("ping")  # nothing says it; look again at each ping
    assert "not_allowed" in (workdir / "out").read_text()
    assert [e.name for e in await caller.log(loop_id)].count("requires_choice") == 1


async def test_a_remembered_host_is_a_rule_for_that_host_and_port_alone(
    caller: Caller, model: MockModel, web: int
) -> None:
    loop_id = await loop(caller)
    script = model.script([get(f"a.test:{web}")], [Text("ok")])
    async with caller.send(loop_id, script.message(), mode="default") as stream:
        await allow_all(caller, loop_id, stream, remember="loop")
    (rule,) = (await caller.get(f"/loops/{loop_id}/rules")).json()["rules"]
    assert (rule["tool"], rule["prefix"]) == ("Network", f"a.test:{web}")
    targets = [f"a.test:{web}", f"b.a.test:{web}", f"test:{web}", f"a.test:{web % 65535 + 1}"]
    for mode in ("auto", "bypassPermissions"):
        script = model.script([get(*targets)], [Text("ok")])
        await caller.turn(loop_id, script.message(), mode=mode)
        assert told(script).count("from outside") == 1
        assert told(script).count('"not_allowed"') == 3
    await caller.delete(f"/loops/{loop_id}/rules/{rule['rule_id']}")
    script = model.script([get(f"a.test:{web}")], [Text("ok")])
    await caller.turn(loop_id, script.message(), mode="auto")
    assert "not_allowed" in told(script)


async def test_the_choice_survives_kill_minus_9(
    callers: Callable[[], Caller], online: JupyterServer, model: MockModel, web: int
) -> None:
    api = callers()
    loop_id = await loop(api)
    first = bash(f"echo once >> ran; python3 get.py a.test:{web}")
    script = model.script([first], [get(f"a.test:{web}")], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        stream.may_be_cut = True
        await api.choose(loop_id, (await choice(stream))["choice_id"], allow=True)
        required = await choice(stream)
        online.restart()
    api = callers()
    state = await api.state(loop_id)
    if not state["durable_choices"]:
        log = await api.log(loop_id)
        assert (log[-1].name, log[-1].data["code"]) == ("error", "server_restarted")
        expect(
            await api.choose(loop_id, required["choice_id"], allow=True), 404, "choice_not_found"
        )
        return
    assert state["current_turn"]["pending_choice_id"] == required["choice_id"]
    async with api.watch(loop_id) as stream:
        answer = await api.choose(loop_id, required["choice_id"], allow=True)
        assert answer.status_code == 202
        again = (await stream.until("requires_choice")).data
        while again["choice_id"] == required["choice_id"]:  # the pending one is shown first
            again = (await stream.until("requires_choice")).data
        await api.choose(loop_id, again["choice_id"], allow=True)
        await stream.until("done")
    assert f"The user allowed a.test:{web}" in script.requests[1].whole
    assert "not_allowed" in script.requests[1].tool_results()[0]
    assert "from outside" in told(script)
    assert (online.workdir(loop_id) / "ran").read_text() == "once\n"


# ------------------------------------------------------------------ the audit


async def test_every_request_is_one_line_of_the_audit(
    caller: Caller, model: MockModel, online: JupyterServer, web: int
) -> None:
    loop_id = await loop(caller, profile(online, "audited", f"a.test:{web}"))
    assert await audit(caller, loop_id) == {"data": [], "has_more": False, "last_id": None}
    script = model.script(
        [get(f"a.test:{web}", "b.test:80", "c.invalid:80", "10.0.0.1:80")], [Text("ok")]
    )
    await caller.turn(loop_id, script.message(), mode="auto")
    page = await audit(caller, loop_id)
    for line in page["data"]:
        assert set(line) == {
            "id", "started_at", "kind", "host", "port", "verdict", "reason", "bytes_out",
            "bytes_in",
        }  # fmt: skip
    lines = [line for line in page["data"] if line["kind"] != "model"]
    assert [(line["host"], line["port"], line["verdict"]) for line in lines] == [
        ("10.0.0.1", 80, "refused"),
        ("c.invalid", 80, "refused"),
        ("b.test", 80, "refused"),
        ("a.test", web, "allowed"),
    ]
    assert lines[-1]["bytes_in"] == len("from outside")
    assert "allow-list" in lines[2]["reason"]
    assert page["last_id"] == page["data"][-1]["id"]
