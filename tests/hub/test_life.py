"""A server's life under a Hub: what counts as activity, stopping and starting, named servers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.hub import Browser, Hub
from tests.support.mock_model import Gate, Hold, MockModel, Text, ask, asked
from tests.support.server import JupyterServer
from tests.support.sse import WAIT

from .conftest import ANA, BEN, Session, configure

pytestmark = pytest.mark.slow(40)

CULL_AFTER = 16
"""Seconds without activity after which the tests' culler ends a server: some multiple of what a
turn's signs of life need on a busy machine (5 s between them, 1 s to the Hub, 1 s to be read)."""


# --------------------------------------------------------------------------- stop and start


async def test_a_stopped_server_has_its_loops_again_and_turns_are_in_their_right_state(
    hub: Hub, ana: Browser, session: Session, model: MockModel
) -> None:
    page = session(ana)
    running, waiting, done = await page.loop(), await page.loop(), await page.loop()
    await page.turn(done, "hello")
    cut = model.script([Text("half a "), Hold(Gate())])
    question = model.script([ask(asked("Drink?", "Tea", "Coffee"))], [Text("as you like")])
    async with (
        page.send(running, cut.message()) as stream,
        page.send(waiting, question.message()) as asking,
    ):
        stream.may_be_cut = asking.may_be_cut = True
        await stream.until("assistant_delta")
        choice = await asking.until("requires_choice")
        await asyncio.to_thread(ana.stop)
    assert hub.server_of(ANA) is None
    away = await page.http.get(page.url("/loops"), follow_redirects=False)
    assert away.status_code >= 400 or away.is_redirect, "nobody answers for a stopped server"
    await asyncio.to_thread(ana.spawn)

    page = session(ana)
    page.recorder.loops.update(dict.fromkeys((running, waiting, done), page))
    log = await page.log(running)
    assert (log[-1].name, log[-1].data["code"]) == ("error", "server_restarted")
    assert (await page.log(done))[-1].name == "done"
    answers = {choice.data["payload"]["questions"][0]["id"]: "Tea"}
    answer = await page.choose(waiting, choice.data["choice_id"], answers=answers)
    assert answer.status_code == 202, answer.text
    assert [event.name for event in await page.log(waiting)][-1] == "done"


# --------------------------------------------------------------------------- named servers


async def test_a_named_server_is_a_server_of_its_own_with_a_home_of_its_own(
    hub: Hub, ana: Browser, session: Session, caller: Session, model: MockModel
) -> None:
    configure(hub.home(ANA) / ".loopat-work", model)
    mine = await session(ana).loop()
    await asyncio.to_thread(ana.spawn, "work")
    try:
        named = session(ana, "work")
        loop = await named.create(title="in the named one")
        assert loop["created_by"] == ANA
        assert (await named.turn(loop["id"], "hello"))[-1].name == "done"
        listed = await named.get("/loops")
        assert listed.status_code == 200, listed.text
        assert [one["id"] for one in listed.json()["data"]] == [loop["id"]]
        expect(await named.get(f"/loops/{mine}"), 404, "loop_not_found")
        made = await named.post("/me/tokens", json={})
        program = caller(ANA, "work", Authorization=f"Bearer {made.json()['token']}")
        assert (await program.get(f"/loops/{loop['id']}")).status_code == 200
        only = ana.token(f"access:servers!server={ANA}/work")
        assert (await caller(ANA, "work", Authorization=f"token {only}").get("/loops")).is_success
        expect(
            await caller(ANA, Authorization=f"token {only}").get("/loops"),
            401,
            "missing_credentials",
        )
        await named.recorder.settle()
    finally:
        await asyncio.to_thread(ana.stop, "work")


# --------------------------------------------------------------------------- activity


async def test_a_silent_turn_keeps_its_server_from_the_culler_and_an_idle_one_is_ended(
    hub: Hub, ana: Browser, ben: Browser, session: Session, model: MockModel
) -> None:
    gate = Gate()
    script = model.script([Text("thinking it over "), Hold(gate), Text("done")])
    page = session(ana)
    loop_id = await page.loop()
    async with page.send(loop_id, script.message()) as stream:
        stream.may_be_cut = True
        await stream.until("assistant_delta")
    await gate.reached()
    assert hub.server_of(BEN) is not None
    silent_from = datetime.now(UTC)
    with Culler(hub):
        await _gone(hub, BEN)
        # Nobody is connected, no kernel runs, no event is made: the turn alone is activity. By now
        # its server had as long as an idle one is given, and the culler has looked since.
        while datetime.now(UTC) < silent_from + timedelta(seconds=CULL_AFTER + 4):
            await asyncio.sleep(0.5)
        assert _last_activity(hub, ANA) > silent_from + timedelta(seconds=CULL_AFTER / 2)
        assert not hub.ask("GET", f"/users/{BEN}").json()["servers"]
        page = session(ana)
        page.recorder.loops[loop_id] = page
        async with page.watch(loop_id) as watcher:
            gate.open()
            await watcher.until("done")


def _last_activity(hub: Hub, name: str) -> datetime:
    server = hub.server_of(name)
    assert server is not None, f"the server of {name} was ended:\n{hub.log}"
    return datetime.fromisoformat(server["last_activity"])


async def _gone(hub: Hub, name: str) -> None:
    async with asyncio.timeout(CULL_AFTER + 2 * WAIT):
        while await asyncio.to_thread(hub.server_of, name) is not None:
            await asyncio.sleep(0.3)  # the Hub tells nobody when a server is gone


class Culler:
    """The program of the guide's service, with a time that a test can wait for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub_idle_culler", f"--url={self._hub.api_url}",
             f"--timeout={CULL_AFTER}", "--cull-every=1"],
            env={"JUPYTERHUB_API_TOKEN": self._hub.service_token, "JUPYTERHUB_API_URL":
                 self._hub.api_url, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def __exit__(self, *exc: object) -> None:
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        assert ended is None, f"the culler ended by itself: {ended}"


QUICK_LOOK = """
from tornado import ioloop

class Quick(ioloop.PeriodicCallback):
    '''jupyter_server looks for activity once a minute; here four times a second, and says so.'''

    def __init__(self, callback, time, *more):
        def said():
            print("looked for activity", flush=True)
            return callback()

        super().__init__(said if time == 60000 else callback, 250 if time == 60000 else time, *more)

ioloop.PeriodicCallback = Quick
c.ServerApp.shutdown_no_activity_timeout = 1
"""


async def test_a_server_that_ends_itself_when_idle_waits_for_the_turn(
    new_server: Callable[..., JupyterServer], recorder: Any, model: MockModel
) -> None:
    server = new_server(config=QUICK_LOOK, options=["--LoopatExtension.ping_interval=60"]).start()
    gate = Gate()
    script = model.script([Text("thinking "), Hold(gate), Text("done")])
    async with Caller(server, recorder, headers=server.session) as api:
        loop_id = await api.loop()
        recorder.loops.clear()  # the server is gone when the test ends
        async with api.send(loop_id, script.message()) as stream:
            stream.may_be_cut = True
            await stream.until("assistant_delta")
        recorder.streams.clear()
    await gate.reached()
    seen = server.log.count("looked for activity")
    async with asyncio.timeout(WAIT):
        while server.log.count("looked for activity") < seen + 12:  # three times the time-out
            await asyncio.sleep(0.1)
    assert "shutting down" not in server.log
    assert server.process is not None
    assert server.process.poll() is None
    gate.open()
    await asyncio.to_thread(server.wait_log, "shutting down")
    await asyncio.to_thread(server.process.wait, WAIT)
