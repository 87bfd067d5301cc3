"""The model gateway: which requests it serves, what it forwards, and how it ends."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from loopat_jupyter.loops.errors import SandboxLost
from loopat_jupyter.loops.ports.network import ModelRequestRefused
from tests.sandboxes.proxy.conftest import Answer, ProxyFixture, Upstream

PATH = "/model/v1/messages"


async def open_gateway(proxied: ProxyFixture, upstream: Upstream) -> dict[str, str]:
    """Open the gateway; the headers of the agent's program."""
    access = await proxied.proxy.open_model_gateway(upstream)
    assert access.url == f"http://127.0.0.1:{proxied.port}/model"
    assert access.key not in repr(access)
    return {"X-Api-Key": access.key}


async def test_a_request_goes_to_the_model_without_the_sandboxes_key(proxied: ProxyFixture) -> None:
    upstream = Upstream()
    given = await open_gateway(proxied, upstream)
    client = await proxied.client()
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
    lines = await proxied.audited()
    assert [(one.kind, one.host, one.port, one.verdict) for one in lines] == [
        ("model", "model.test", 443, "allowed")
    ] * 2
    assert (lines[0].bytes_out, lines[0].bytes_in) == (2, 10)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", ""])
async def test_the_key_may_come_as_any_provider_has_it(proxied: ProxyFixture, scheme: str) -> None:
    key = (await open_gateway(proxied, Upstream()))["X-Api-Key"]
    client = await proxied.client()
    assert (await client.ask("GET", PATH, {"Authorization": scheme + key}))[0] == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-Api-Key": "loopat-guess"}, {"Authorization": "Bearer \xe9"}]
)
async def test_without_the_sandboxes_key_nothing_is_sent(
    proxied: ProxyFixture, headers: dict[str, str]
) -> None:
    upstream = Upstream()
    key = (await open_gateway(proxied, upstream))["X-Api-Key"]
    client = await proxied.client()
    status, code, message = await client.refusal("POST", PATH, headers=headers, body=b"{}")
    assert (status, code) == (401, "wrong_key")
    assert key not in message
    assert upstream.asked == []
    assert key not in repr(await proxied.audited())


async def test_a_closed_gateway_serves_no_model(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    refused = await client.refusal("POST", PATH, body=b"{}")
    assert refused[:2] == (403, "model_gateway_closed")
    given = await open_gateway(proxied, Upstream())
    proxied.proxy.close_model_gateway()
    client = await proxied.client()
    refused = await client.refusal("POST", PATH, headers=given, body=b"{}")
    assert refused[:2] == (403, "model_gateway_closed")


async def test_pieces_are_passed_on_as_they_come(proxied: ProxyFixture) -> None:
    gate = asyncio.Event()
    upstream = Upstream(Answer(pieces=[b"one", b"two"], gate=gate))
    given = await open_gateway(proxied, upstream)
    client = await proxied.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    await client.head()
    pieces = client.chunks()
    async with asyncio.timeout(20):
        assert [await anext(pieces), await anext(pieces)] == [b"one", b"two"]
        gate.set()
        assert await anext(pieces, None) is None


async def test_what_the_upstream_refuses_is_reported_and_nothing_was_sent(
    proxied: ProxyFixture,
) -> None:
    given = await open_gateway(proxied, Upstream(fails=ModelRequestRefused("Not this path.")))
    client = await proxied.client()
    refused = await client.refusal("POST", PATH, headers=given, body=b"x" * 1000)
    assert refused == (403, "model_request_refused", "Not this path.")
    [line] = await proxied.audited()
    assert (line.verdict, line.reason) == ("refused", "Not this path.")


@pytest.mark.parametrize("why", ["Connection refused", "Zertifikat ungültig\r\nX-Evil: 1"])
async def test_a_provider_that_is_not_reached_is_a_failure(proxied: ProxyFixture, why: str) -> None:
    given = await open_gateway(proxied, Upstream(fails=OSError(why)))
    client = await proxied.client()
    status, headers, body = await client.ask("POST", PATH, given, b"{}")
    assert status == 502
    assert why in json.loads(body)["error"]["message"]
    assert "x-evil" not in headers
    [line] = await proxied.audited()
    assert line.verdict == "failed"


async def test_a_response_that_breaks_off_does_not_look_whole(proxied: ProxyFixture) -> None:
    given = await open_gateway(proxied, Upstream(Answer(broken=True)))
    client = await proxied.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    got = await client.rest()
    assert b"data: hi" in got
    assert not got.endswith(b"0\r\n\r\n")
    [line] = await proxied.audited()
    assert (line.verdict, line.bytes_in) == ("failed", 10)
    assert "the line went dead" in line.reason


async def test_a_providers_own_error_passes_as_it_is(proxied: ProxyFixture) -> None:
    body = b'{"error": {"message": "invalid x-api-key"}}'
    headers = (("content-length", str(len(body))), ("request-id", "r1"))
    given = await open_gateway(proxied, Upstream(Answer([body], 401, headers)))
    client = await proxied.client()
    status, got, said = await client.ask("POST", PATH, given, b"{}")
    assert (status, said, got["request-id"]) == (401, body, "r1")


# ------------------------------------------------------------------ how it ends


async def test_closing_the_gateway_is_reported_to_a_request_without_response(
    proxied: ProxyFixture,
) -> None:
    upstream = Upstream(silent=True)
    given = await open_gateway(proxied, upstream)
    client = await proxied.client()
    asking = asyncio.ensure_future(client.refusal("POST", PATH, headers=given, body=b"{}"))
    await asyncio.wait_for(upstream.reached.wait(), 20)
    proxied.proxy.close_model_gateway()
    assert (await asking)[:2] == (403, "model_gateway_closed")
    [line] = await proxied.audited()
    assert (line.verdict, line.bytes_out) == ("failed", 2)
    assert "ended" in line.reason


async def test_closing_the_gateway_cuts_off_an_open_stream(proxied: ProxyFixture) -> None:
    answer = Answer(gate=asyncio.Event())
    given = await open_gateway(proxied, Upstream(answer))
    client = await proxied.client()
    client.write(
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {given['X-Api-Key']}\r\n\r\n".encode()
    )
    await client.head()
    assert await anext(client.chunks()) == b"data: hi\n\n"
    proxied.proxy.close_model_gateway()
    assert b"0\r\n\r\n" not in await client.rest()
    [line] = await proxied.audited()
    assert (line.verdict, line.bytes_in) == ("allowed", 10)
    assert "ended" in line.reason
    assert answer.closed


async def test_a_client_that_disconnects_cancels_its_request_at_the_provider(
    proxied: ProxyFixture,
) -> None:
    upstream = Upstream(silent=True)
    given = await open_gateway(proxied, upstream)
    client = await proxied.client()
    client.write(
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        f"X-Api-Key: {given['X-Api-Key']}\r\n\r\n{{}}".encode()
    )
    await asyncio.wait_for(upstream.reached.wait(), 20)
    [task] = proxied.proxy._connections
    client.writer.close()
    await asyncio.wait([task], timeout=20)
    assert task.done()
    [line] = await proxied.audited()
    assert (line.verdict, line.bytes_out) == ("failed", 2)
    assert "left" in line.reason


async def test_opening_again_replaces_the_upstream_and_keeps_the_key(proxied: ProxyFixture) -> None:
    first, second = Upstream(), Upstream()
    given = await open_gateway(proxied, first)
    assert await open_gateway(proxied, second) == given
    client = await proxied.client()
    await client.ask("POST", PATH, given, b"{}")
    assert (len(first.asked), len(second.asked)) == (0, 1)


async def test_a_gateway_of_a_sandbox_that_ended_cannot_be_opened(proxied: ProxyFixture) -> None:
    proxied.proxy.stop_listening()
    with pytest.raises(SandboxLost):
        await proxied.proxy.open_model_gateway(Upstream())


async def test_a_gateway_without_a_listener_cannot_be_opened(proxied: ProxyFixture) -> None:
    from loopat_jupyter.loops.ports.network import Egress
    from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer

    proxy = EgressProxyServer("loop_2", Egress(), proxied.keep, lambda: "now")
    waiting = asyncio.ensure_future(proxy.open_model_gateway(Upstream()))
    await asyncio.sleep(0)
    proxy.stop_listening()
    with pytest.raises(SandboxLost):
        await waiting
    await proxy.close()


async def test_a_tunnel_to_the_gateway_is_none(proxied: ProxyFixture) -> None:
    upstream = Upstream(fails=ModelRequestRefused("Not this method."))
    given = await open_gateway(proxied, upstream)
    client = await proxied.client()
    assert (await client.refusal("CONNECT", PATH, headers=given))[0] == 403
    assert upstream.asked == []


async def test_every_sandbox_has_a_key_of_its_own(proxied: ProxyFixture) -> None:
    other = dataclasses.replace(proxied).open()
    one, two = await open_gateway(proxied, Upstream()), await open_gateway(other, Upstream())
    assert one != two
    client = await proxied.client()
    assert (await client.refusal("POST", PATH, headers=two, body=b"{}"))[0] == 401
