"""Programs behind a Hub: a kernel's ``connect()``, curl with an API token, streams as they come."""

from __future__ import annotations

import asyncio
import json
import shutil

import httpx
import pytest

from tests.support.caller import Caller
from tests.support.hub import Browser, Hub
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash
from tests.support.server import mock_provider
from tests.support.sse import WAIT

from .conftest import ANA, BEN, Session
from .kernel import kernel

pytestmark = pytest.mark.slow(10)

IN_A_KERNEL = """
import json, os
from loopat_jupyter.client import connect
with connect() as client:
    loop = client.loops.create("from a kernel")
    result = loop.ask({content!r})
    print(json.dumps({{
        "found_by": client.address.found_by,
        "url": client.address.url,
        "prefix": os.environ["JUPYTERHUB_SERVICE_PREFIX"],
        "id": loop.id,
        "owner": loop.info.created_by,
        "text": result.text,
        "known": [one.id for one in client.loops.list()],
    }}))
"""

AT_A_TERMINAL = """
import subprocess
print(subprocess.run(["loopat", "token", "create", "a script"], capture_output=True, text=True,
                     check=True).stdout)
"""


async def test_connect_in_a_kernel_finds_its_own_server_with_the_hubs_token(
    hub: Hub, ana: Browser, session: Session, model: MockModel
) -> None:
    script = model.script([bash("env; cat /proc/*/environ")], [Text("from the model")])
    async with kernel(hub.server_url(ANA), ana.token()) as python:
        said = json.loads(await python.run(IN_A_KERNEL.format(content=script.message())))
    assert said["found_by"] == "JUPYTERHUB_API_TOKEN"
    assert said["url"].endswith(said["prefix"]), said
    assert (said["owner"], said["text"]) == (ANA, "from the model")
    assert said["id"] in said["known"]
    listed = (await session(ana).get("/loops")).json()["data"]
    assert said["id"] in [one["id"] for one in listed], "kernel and browser are the same person"
    assert "JUPYTERHUB" not in script.requests[-1].whole, "the Hub's tokens are not in the sandbox"


async def test_deltas_come_through_the_proxy_one_by_one_while_the_model_is_still_speaking(
    ana: Browser, session: Session, caller: Session, model: MockModel
) -> None:
    page = session(ana)
    token = (await page.post("/me/tokens", json={})).json()["token"]
    for api in (page, caller(ANA, Authorization=f"Bearer {token}")):
        await _paced(api, model)


async def _paced(api: Caller, model: MockModel) -> None:
    gates = [Gate() for _ in range(3)]
    words = ["one ", "two ", "three"]
    script = model.script(
        [p for pair in zip(map(Text, words), map(Hold, gates), strict=True) for p in pair]
    )
    loop_id = await api.loop()
    async with api.watch(loop_id) as watcher, api.send(loop_id, script.message()) as stream:
        for word, gate in zip(words, gates, strict=True):
            # The model stands at its gate: what has come by now was not held back by anybody.
            for one in (stream, watcher):
                delta = await one.until("assistant_delta")
                assert delta.data["text"] == word
            await gate.reached()
            gate.open()
        assert (await stream.rest())[-1].name == "done"
    log = await api.log(loop_id)
    cut = next(event.seq for event in log if event.name == "assistant_delta")
    assert cut is not None
    async with api.watch(loop_id, last_event_id=cut) as again:
        assert (await again.until("done")).seq == log[-1].seq


async def test_a_gateway_of_the_hub_learns_from_one_shared_configuration_who_asks(
    hub: Hub, ben: Browser, session: Session, model: MockModel
) -> None:
    """``docs/jupyterhub.md``, *Models for everyone*: the file has no secret."""
    shared = hub.directory / "shared.json"
    shared.write_text(json.dumps(mock_provider(model.url, key="${JUPYTERHUB_API_TOKEN}")))
    own = hub.home(BEN) / ".loopat" / "config.json"
    before = own.read_text()
    own.unlink()
    own.symlink_to(shared)
    script = model.script([Text("hello")])
    try:
        page = session(ben)
        events = await page.turn(await page.loop(), script.message())
        assert events[-1].name == "done"
    finally:
        own.unlink()
        own.write_text(before)
    presented = {name.lower(): value for name, value in script.requests[0].headers.items()}
    headers = {"Authorization": f"token {presented['x-api-key']}"}
    who = httpx.get(f"{hub.api_url}/user", headers=headers).json()
    assert (who["kind"], who["name"]) == ("user", BEN)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
async def test_curl_with_an_api_token_made_at_a_terminal_of_the_server(
    hub: Hub, ben: Browser, model: MockModel
) -> None:
    async with kernel(hub.server_url(BEN), ben.token()) as python:
        token = (await python.run(AT_A_TERMINAL)).strip()
    api = f"{hub.server_url(BEN)}loopat/api/v1"
    made = json.loads(await _curl(token, "-X", "POST", f"{api}/loops"))
    assert made["created_by"] == BEN
    gate = Gate()
    script = model.script([Text("first "), Hold(gate), Text("last")])
    body = json.dumps({"content": script.message()})
    process = await asyncio.create_subprocess_exec(
        *_command(token, "-N", "-H", "Content-Type: application/json", "-d", body),
        f"{api}/loops/{made['id']}/messages",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(WAIT):
        seen = b""
        while b'"first "' not in seen:
            seen += await process.stdout.readline()
        await gate.reached()
        gate.open()  # only now does the model go on: curl had the first delta before
        rest = await process.stdout.read()
        assert await process.wait() == 0
    assert b"event: done" in rest


def _command(token: str, *options: str) -> list[str]:
    return ["curl", "-sf", "-H", f"Authorization: Bearer {token}", *options]


async def _curl(token: str, *options: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *_command(token, *options), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out
