"""What a sandbox may reach, as the agent, the owner and the person who is asked see it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import MockModel, Text, Tool, bash
from tests.support.server import JupyterServer, mock_provider
from tests.support.sse import EventStream

pytestmark = pytest.mark.slow(8)

THERE = "far.invalid:443"
NO_LOOKUPS = """
from loopat_jupyter.sandboxes.proxy import resolver

resolver._addresses = lambda host, port: OSError("no such name")
"""
"""What was let out is not looked up: no test sends anything beyond this machine."""


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    """The server of this module; its profiles are written, and it is killed."""
    with JupyterServer(
        tmp_path_factory.mktemp("network"),
        model=mock_provider(model.url),
        options=["--LoopatExtension.ping_interval=1"],
        config=NO_LOOKUPS,
    ) as running:
        yield running


@pytest.fixture
async def caller(mortal: JupyterServer, recorder: Recorder) -> AsyncIterator[Callable[[], Caller]]:
    """Makes callers; a connection does not survive its server."""
    async with contextlib.AsyncExitStack() as stack:

        def make() -> Caller:
            one = Caller(mortal, recorder, headers=mortal.session)
            stack.push_async_callback(one.http.aclose)
            return one

        yield make


def reach(authority: str = THERE) -> Tool:
    """A command that asks the proxy for a tunnel, and shows the answer."""
    ask = f"CONNECT {authority} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
    return bash(f"exec 3<>/dev/tcp/127.0.0.1/${{HTTP_PROXY##*:}}; printf '{ask}' >&3; cat <&3")


async def choice(stream: EventStream, tool: str) -> dict[str, Any]:
    data: dict[str, Any] = (await stream.until("requires_choice")).data
    assert data["payload"]["tool"] == tool, data
    return data


async def audit(api: Caller, loop_id: str, **params: Any) -> dict[str, Any]:
    answer = await api.get(f"/loops/{loop_id}/network", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_a_refusal_is_seen_by_the_agent_and_in_the_audit(
    caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    assert await audit(api, loop_id) == {"data": [], "has_more": False, "last_id": None}
    script = model.script([reach()], [Text("ok")])
    log = await api.turn(loop_id, script.message(), mode="bypassPermissions")
    assert [e.name for e in log if e.name == "requires_choice"] == []
    (result,) = script.requests[1].tool_results()
    assert "403" in result
    assert f"{THERE} is not on the allow-list" in result
    assert f"[network: {THERE} was refused" in result
    page = await audit(api, loop_id)
    (line,) = page["data"]
    assert page["last_id"] == line["id"]
    assert set(line) == {
        "id", "started_at", "kind", "host", "port", "verdict", "reason", "bytes_out", "bytes_in",
    }  # fmt: skip
    seen = (line["kind"], line["host"], line["port"], line["verdict"])
    assert seen == ("connect", "far.invalid", 443, "refused")
    assert line["reason"] in result


async def test_odd_addresses_are_refused_from_inside_and_nobody_is_asked(
    caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    odd = ["169.254.169.254:80", "[::ffff:127.0.0.1]:80", "2130706433:80", "0177.0.0.1:80",
           "evil\\0.far.invalid:443", "far.invalid..:443", "localhost:80"]  # fmt: skip
    script = model.script(*[[reach(one)] for one in odd], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        for _ in odd:
            required = await choice(stream, "Bash")
            await api.choose(loop_id, required["choice_id"], allow=True)
        await stream.rest()
    page = await audit(api, loop_id)
    assert [line["verdict"] for line in page["data"]] == ["refused"] * len(odd)


async def test_the_audit_comes_in_pages_newest_first_and_refuses_what_is_no_cursor(
    caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    script = model.script(*[[reach(f"n{n}.invalid:443")] for n in range(3)], [Text("ok")])
    await api.turn(loop_id, script.message(), mode="bypassPermissions")
    first = await audit(api, loop_id, limit=2)
    rest = await audit(api, loop_id, limit=2, after=first["last_id"])
    hosts = [line["host"] for line in first["data"] + rest["data"]]
    assert hosts == ["n2.invalid", "n1.invalid", "n0.invalid"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for params, code in (
        ({"after": "net_x"}, "invalid_cursor"),
        ({"after": ""}, "invalid_cursor"),
        ({"limit": 0}, "invalid_parameter"),
    ):
        answer = await api.get(f"/loops/{loop_id}/network", params=params)
        expect(answer, 400, code)
    expect(await api.get("/loops/loop_unknown/network"), 404, "loop_not_found")


async def test_the_audit_is_its_owners_alone(
    person: Callable[[str], Caller], somebody: str, nobody: Caller
) -> None:
    loop_id = await person(somebody).loop()
    expect(await person("mallory").get(f"/loops/{loop_id}/network"), 403, "not_loop_owner")
    expect(await nobody.get(f"/loops/{loop_id}/network"), 401, "missing_credentials")
    assert (await audit(person(somebody), loop_id))["data"] == []


async def asked_for_network(api: Caller, loop_id: str, stream: EventStream) -> dict[str, Any]:
    """The choice about the network, after the one about the command was allowed."""
    first = await choice(stream, "Bash")
    await api.choose(loop_id, first["choice_id"], allow=True)
    required = await choice(stream, "Network")
    assert required["payload"]["input"] == {"host": "far.invalid", "port": 443}
    assert THERE in required["payload"]["title"]
    return required


async def test_a_person_is_asked_and_remembering_makes_a_rule_for_the_destination(
    caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    script = model.script([reach()], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        required = await asked_for_network(api, loop_id, stream)
        await api.choose(loop_id, required["choice_id"], allow=True, remember="loop")
        rule = (await stream.until("choice_resolved")).data["rule"]
        assert (await stream.rest())[-1].name == "done"
    assert (rule["tool"], rule["prefix"]) == ("Network", THERE)
    (result,) = script.requests[1].tool_results()
    assert f"The user allowed {THERE}" in result
    (entry,) = (await api.get(f"/loops/{loop_id}/rules")).json()["rules"]
    assert (entry["tool"], entry["prefix"]) == ("Network", THERE)


async def test_a_choice_about_the_network_survives_kill_9(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    api = caller()
    loop_id = await api.loop()
    script = model.script([bash("echo ran >> ran.txt"), reach()], [Text("ok")])
    async with api.send(loop_id, script.message(), mode="default") as stream:
        stream.may_be_cut = True
        await api.choose(loop_id, (await choice(stream, "Bash"))["choice_id"], allow=True)
        required = await asked_for_network(api, loop_id, stream)
        mortal.restart()
    api = caller()
    assert (await api.state(loop_id))["busy"]
    answer = await api.choose(loop_id, required["choice_id"], allow=False)
    assert answer.status_code == 202, answer.text
    log = await api.log(loop_id)
    assert log[-1].name == "done"
    assert (mortal.workdir(loop_id) / "ran.txt").read_text() == "ran\n"
    result = script.requests[1].tool_results()[-1]
    assert f"[network: {THERE} was refused: User denied permission" in result


async def test_a_profiles_allow_list_counts_at_the_next_turn_and_a_broken_one_fails_it(
    mortal: JupyterServer, caller: Callable[[], Caller], model: MockModel
) -> None:
    place = mortal.home / "profiles" / "open"
    place.mkdir(parents=True)
    api = caller()
    loop_id = await api.loop(profiles=["open"])

    async def told() -> str:
        script = model.script([Text("ok")])
        await api.turn(loop_id, script.message())
        return script.requests[0].whole

    assert "far.invalid" not in await told()
    (place / "network.json").write_text(json.dumps({"allow": ["*.far.invalid:8443"]}))
    assert "*.far.invalid:8443" in await told()
    (place / "network.json").write_text('{"allow": [')
    script = model.script([Text("never")])
    end = (await api.turn(loop_id, script.message()))[-1]
    assert end.name == "error"
    assert "profiles/open/network.json" in end.data["message"]
    assert script.requests == []
    (place / "network.json").unlink()
    assert "far.invalid" not in await told()


async def test_there_is_no_way_out_beside_the_broker(
    caller: Callable[[], Caller], model: MockModel, mortal: JupyterServer
) -> None:
    api = caller()
    loop_id = await api.loop()
    tries = (
        "getent hosts far.invalid localhost.localdomain && echo resolved; "
        f"(exec 3<>/dev/tcp/127.0.0.1/{mortal.port}) && echo server; "
        "(exec 3<>/dev/tcp/192.0.2.1/53) && echo world; "
        "(echo x >/dev/udp/192.0.2.1/53) && echo datagram; echo end"
    )
    script = model.script([bash(f"({tries}) 2>&1")], [Text("ok")])
    await api.turn(loop_id, script.message(), mode="bypassPermissions")
    (result,) = script.requests[1].tool_results()
    assert "end" in result
    for found in ("resolved", "server\n", "world", "datagram\n"):
        assert found not in result, result
