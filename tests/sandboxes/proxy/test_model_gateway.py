"""The lent model: who may ask, what passes, and how it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.network import ModelRequestRefused
from tests.sandboxes.proxy.conftest import Answer, Ground, Upstream

PATH = "/model/v1/messages"


async def lent(ground: Ground, upstream: Upstream) -> dict[str, str]:
    """The headers with which the agent's program asks."""
    loan = await ground.broker.open_model_gateway(upstream)
    assert loan.url == f"http://127.0.0.1:{ground.port}/model"
    assert loan.key not in repr(loan)
    return {"X-Api-Key": loan.key}


async def test_a_request_goes_to_the_lent_model_without_our_key(ground: Ground) -> None:
    upstream = Upstream()
    given = await lent(ground, upstream)
    client = await ground.client()
    sent = {
        **given, "Authorization": "Bearer theirs", "Cookie": "a=b", "Api-Key": "x",
        "Anthropic-Version": "1", "Connection": "keep-alive",
    }  # fmt: skip
    status, headers, body = await client.ask("POST", PATH + "?beta=true", sent, b"{}")
    assert (status, body) == (200, b"data: hi\n\n")
    assert headers["content-type"] == "text/event-stream"
    method, target, passed, data = upstream.asked[0]
    assert (method, target, data) == ("POST", "/v1/messages?beta=true", b"{}")
    assert passed == {"anthropic-version": "1", "content-length": "2"}
    assert upstream.answer.closed
    status, _, _ = await client.ask("POST", PATH, given, b"{}")  # the connection is kept
    assert status == 200
    lines = await ground.audited()
    assert [(one.kind, one.host, one.port, one.verdict) for one in lines] == [
        ("model", "model.test", 443, "allowed")
    ] * 2
    assert (lines[0].bytes_out, lines[0].bytes_in) == (2, 10)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", ""])
async def test_the_key_may_come_as_any_provider_has_it(ground: Ground, scheme: str) -> None:
    key = (await lent(ground, Upstream()))["X-Api-Key"]
    client = await ground.client()
    assert (await client.ask("GET", PATH, {"Authorization": scheme + key}))[0] == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-Api-Key": "loopat-guess"}, {"Authorization": "Bearer \xe9"}]
)
async def test_without_the_sandboxes_key_nothing_is_asked(
    ground: Ground, headers: dict[str, str]
) -> None:
    upstream = Upstream()
    key = (await lent(ground, upstream))["X-Api-Key"]
    client = await ground.client()
    status, code, message = await client.refusal("POST", PATH, headers=headers, body=b"{}")
    assert (status, code) == (401, "wrong_key")
    assert key not in message
    assert upstream.asked == []
    assert key not in repr(await ground.audited())


async def test_without_a_loan_there_is_no_model(ground: Ground) -> None:
    client = await ground.client()
    refused = await client.refusal("POST", PATH, body=b"{}")
    assert refused[:2] == (403, "model_not_lent")
    given = await lent(ground, Upstream())
    ground.broker.close_model_gateway()
    client = await ground.client()
    refused = await client.refusal("POST", PATH, headers=given, body=b"{}")
    assert refused[:2] == (403, "model_not_lent")


async def test_pieces_are_passed_on_as_they_come(ground: Ground) -> None:
    gate = asyncio.Event()
    upstream = Upstream(Answer(pieces=[b"one", b"two"], gate=gate))
    given = await lent(ground, upstream)
    client = await ground.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    await client.head()
    pieces = client.chunks()
    async with asyncio.timeout(20):
        assert [await anext(pieces), await anext(pieces)] == [b"one", b"two"]
        gate.set()
        assert await anext(pieces, None) is None


async def test_what_the_upstream_refuses_is_told_and_nothing_was_sent(ground: Ground) -> None:
    given = await lent(ground, Upstream(fails=ModelRequestRefused("Not this path.")))
    client = await ground.client()
    refused = await client.refusal("POST", PATH, headers=given, body=b"x" * 1000)
    assert refused == (403, "not_lent", "Not this path.")
    [line] = await ground.audited()
    assert (line.verdict, line.reason) == ("refused", "Not this path.")


@pytest.mark.parametrize("why", ["Connection refused", "Zertifikat ungültig\r\nX-Evil: 1"])
async def test_a_provider_that_is_not_reached_is_a_failure(ground: Ground, why: str) -> None:
    given = await lent(ground, Upstream(fails=OSError(why)))
    client = await ground.client()
    status, headers, body = await client.ask("POST", PATH, given, b"{}")
    assert status == 502
    assert why in json.loads(body)["error"]["message"]
    assert "x-evil" not in headers
    [line] = await ground.audited()
    assert line.verdict == "failed"


async def test_an_answer_that_breaks_off_does_not_look_whole(ground: Ground) -> None:
    given = await lent(ground, Upstream(Answer(broken=True)))
    client = await ground.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    got = await client.rest()
    assert b"data: hi" in got
    assert not got.endswith(b"0\r\n\r\n")
    [line] = await ground.audited()
    assert (line.verdict, line.bytes_in) == ("failed", 10)
    assert "the line went dead" in line.reason


async def test_a_providers_own_error_passes_as_it_is(ground: Ground) -> None:
    body = b'{"error": {"message": "invalid x-api-key"}}'
    headers = (("content-length", str(len(body))), ("request-id", "r1"))
    given = await lent(ground, Upstream(Answer([body], 401, headers)))
    client = await ground.client()
    status, got, said = await client.ask("POST", PATH, given, b"{}")
    assert (status, said, got["request-id"]) == (401, body, "r1")


# ------------------------------------------------------------------ how it ends


async def test_the_end_of_a_loan_is_told_to_who_has_no_answer_yet(ground: Ground) -> None:
    upstream = Upstream(silent=True)
    given = await lent(ground, upstream)
    client = await ground.client()
    asking = asyncio.ensure_future(client.refusal("POST", PATH, headers=given, body=b"{}"))
    await asyncio.wait_for(upstream.reached.wait(), 20)
    ground.broker.close_model_gateway()
    assert (await asking)[:2] == (403, "model_not_lent")
    [line] = await ground.audited()
    assert (line.verdict, line.bytes_out) == ("failed", 2)
    assert "ended" in line.reason


async def test_the_end_of_a_loan_cuts_off_an_open_stream(ground: Ground) -> None:
    answer = Answer(gate=asyncio.Event())
    given = await lent(ground, Upstream(answer))
    client = await ground.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    await client.head()
    assert await anext(client.chunks()) == b"data: hi\n\n"
    ground.broker.close_model_gateway()
    assert b"0\r\n\r\n" not in await client.rest()
    [line] = await ground.audited()
    assert (line.verdict, line.bytes_in) == ("allowed", 10)
    assert "ended" in line.reason
    assert answer.closed


async def test_a_visitor_that_leaves_ends_its_request_at_the_provider(ground: Ground) -> None:
    upstream = Upstream(silent=True)
    given = await lent(ground, upstream)
    client = await ground.client()
    client.write(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        f"X-Api-Key: {given['X-Api-Key']}\r\n\r\n{{}}".encode()
    )
    await asyncio.wait_for(upstream.reached.wait(), 20)
    [visit] = ground.broker._connections
    client.writer.close()
    await asyncio.wait([visit], timeout=20)
    assert visit.done()
    [line] = await ground.audited()
    assert (line.verdict, line.bytes_out) == ("failed", 2)
    assert "left" in line.reason


async def test_a_new_loan_replaces_the_old_one_and_keeps_the_key(ground: Ground) -> None:
    first, second = Upstream(), Upstream()
    given = await lent(ground, first)
    assert await lent(ground, second) == given
    client = await ground.client()
    await client.ask("POST", PATH, given, b"{}")
    assert (len(first.asked), len(second.asked)) == (0, 1)


async def test_a_sandbox_that_is_gone_is_lent_nothing(ground: Ground) -> None:
    ground.broker.stop_listening()
    with pytest.raises(SandboxLost):
        await ground.broker.open_model_gateway(Upstream())


async def test_a_sandbox_that_never_opened_its_door_is_lent_nothing(ground: Ground) -> None:
    from loopat_jupyter.loops.ports.network import Egress
    from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer

    broker = EgressProxyServer("loop_2", Egress(), ground.keep, lambda: "now")
    waiting = asyncio.ensure_future(broker.open_model_gateway(Upstream()))
    await asyncio.sleep(0)
    broker.stop_listening()
    with pytest.raises(SandboxLost):
        await waiting
    await broker.close()


async def test_a_tunnel_to_the_gateway_is_none(ground: Ground) -> None:
    upstream = Upstream(fails=ModelRequestRefused("Not this method."))
    given = await lent(ground, upstream)
    client = await ground.client()
    assert (await client.refusal("CONNECT", PATH, headers=given))[0] == 403
    assert upstream.asked == []


async def test_every_sandbox_has_a_key_of_its_own(ground: Ground) -> None:
    other = dataclasses.replace(ground).open()
    one, two = await lent(ground, Upstream()), await lent(other, Upstream())
    assert one != two
    client = await ground.client()
    assert (await client.refusal("POST", PATH, headers=two, body=b"{}"))[0] == 401
