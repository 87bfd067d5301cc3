"""The lifecycle of an egress proxy: bounds, hostile clients, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loopat_jupyter.loops.ports.network import AuditEntry, Egress
from loopat_jupyter.sandboxes.proxy import connection as connection_module
from loopat_jupyter.sandboxes.proxy import server as server_module
from loopat_jupyter.sandboxes.proxy.audit import PENDING, AuditWriter
from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer
from tests.sandboxes.proxy.conftest import Answer, ProxyFixture, Upstream, WebServer

MODEL = "POST /model/v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\n"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


# ------------------------------------------------------------------ how it can end


async def _nothing(proxied: ProxyFixture) -> None:
    await proxied.client()


async def _half_a_head(proxied: ProxyFixture) -> None:
    (await proxied.client()).write(b"GET http://a.te")


async def _half_a_body(proxied: ProxyFixture) -> None:
    port = await proxied.server(silent)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(
        f"POST http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc".encode()
    )


async def _no_answer(proxied: ProxyFixture) -> None:
    port = await proxied.server(silent)
    proxied.allow(f"a.test:{port}")
    (await proxied.client()).write(
        f"GET http://a.test:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    )


async def _a_tunnel(proxied: ProxyFixture) -> None:
    port = await proxied.server(silent)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(f"CONNECT a.test:{port} HTTP/1.1\r\nHost: x\r\n\r\nhello".encode())
    await client.head()


async def _a_tunnel_nobody_reads(proxied: ProxyFixture) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    port = await proxied.server(endless)
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    client.write(f"CONNECT a.test:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.head()
    client.writer.transport.pause_reading()


async def _a_slow_name(proxied: ProxyFixture) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    object.__setattr__(proxied.proxy._egress._dialer, "resolve", resolve)
    proxied.allow("a.test")
    (await proxied.client()).write(b"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")


async def _a_silent_model(proxied: ProxyFixture) -> None:
    access = await proxied.proxy.open_model_gateway(Upstream(silent=True))
    client = await proxied.client()
    client.write((MODEL.format(key=access.key) + "Content-Length: 0\r\n\r\n").encode())


async def _half_a_body_for_the_model(proxied: ProxyFixture) -> None:
    access = await proxied.proxy.open_model_gateway(Upstream())
    client = await proxied.client()
    client.write((MODEL.format(key=access.key) + "Content-Length: 9\r\n\r\nabc").encode())


async def _an_open_stream(proxied: ProxyFixture) -> None:
    access = await proxied.proxy.open_model_gateway(Upstream(Answer(gate=asyncio.Event())))
    client = await proxied.client()
    client.write((MODEL.format(key=access.key) + "Content-Length: 0\r\n\r\n").encode())
    await client.head()


async def _a_refusal_unread(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    client.write(b"POST http://a.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\nabc")
    await client.head()


STATES = [
    _nothing, _half_a_head, _half_a_body, _no_answer, _a_tunnel, _a_tunnel_nobody_reads,
    _a_slow_name, _a_silent_model, _half_a_body_for_the_model, _an_open_stream, _a_refusal_unread,
]  # fmt: skip


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 30])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__.strip("_"))
async def test_at_the_end_no_task_and_no_socket_is_left(
    proxied: ProxyFixture, state: Callable[[ProxyFixture], Awaitable[None]], turns: int
) -> None:
    before = asyncio.all_tasks()
    files = open_files() - 1  # the listener goes too
    await state(proxied)
    for _ in range(turns):  # at whatever it waits by now
        await asyncio.sleep(0)
    proxy = proxied.proxy
    if turns % 2:
        proxy.stop_listening()
    async with asyncio.timeout(20):
        await proxy.close()
    await proxied.stack.aclose()
    for _ in range(3):  # the transports' own goodbye
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before - {proxy._accepting}
    assert open_files() == files
    assert not proxy._connections


async def test_a_request_under_way_at_the_end_is_in_the_audit(proxied: ProxyFixture) -> None:
    await _a_tunnel(proxied)
    [line] = await proxied.audited()
    assert (line.kind, line.verdict, line.bytes_out) == ("connect", "allowed", 5)
    assert "ended" in line.reason


async def test_closing_may_come_before_the_listener_and_twice() -> None:
    async def keep(line: AuditEntry) -> None:
        raise AssertionError

    proxy = EgressProxyServer("loop_1", Egress(), keep, lambda: "now")
    proxy.stop_listening()
    proxy.stop_listening()
    listener = socket.create_server(("127.0.0.1", 0))
    proxy.start(listener)
    assert listener.fileno() == -1
    await proxy.close()


# ------------------------------------------------------------------ bounds


async def test_more_connections_than_allowed_are_closed_and_room_is_given_back(
    proxied: ProxyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 2)
    held = [await proxied.client() for _ in range(2)]
    for client in held:  # taken for sure: they are answered, and kept
        client.write(b"GET http://a.test/ HTTP/1.1\r\nHost: x\r\n")
    while len(proxied.proxy._connections) < 2:
        await asyncio.sleep(0)
    assert await (await proxied.client()).rest() == b""
    held[0].writer.close()
    await asyncio.wait(proxied.proxy._connections, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert (await (await proxied.client()).refusal("GET", "/"))[0] == 404


async def test_a_head_that_is_too_large_is_refused(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    client.write(b"GET http://a.test/ HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000)
    assert (await client.answer())[0] == 431


async def test_who_does_not_finish_a_head_is_not_waited_for(
    proxied: ProxyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "IDLE_TIMEOUT", 0.05)
    client = await proxied.client()
    client.write(b"GET http://a.test/ HTTP/1.1\r\nHost: x\r\n")
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n", b"GET\r\n\r\n",
        b"GET http://a.test/ HTTP/2.0\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://a.test/ HTTP/1.1\r\nX\x00: 1\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"\r\n\r\n\r\n\r\nx\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_no_http_gets_one_answer(proxied: ProxyFixture, said: bytes) -> None:
    client = await proxied.client()
    client.write(said + b"\r\n\r\n")
    client.writer.write_eof()
    answer = await client.rest()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505"))
    assert answer.count(b"content-type") == 1


async def test_an_early_refusal_is_read_by_who_still_sends(proxied: ProxyFixture) -> None:
    """Closed with something unread, the connection would be reset, and the answer lost."""
    client = await proxied.client()
    size = 4 << 20
    client.write(
        f"POST http://a.test/ HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    for _ in range(size >> 16):
        client.write(b"x" * 65536)
        await client.writer.drain()
    status, headers, body = await client.answer()
    assert (status, headers["connection"]) == (403, "close")
    assert b"allow-list" in body


async def test_who_sends_without_end_is_not_heard_for_ever(
    proxied: ProxyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SIZE", 1 << 20)
    client = await proxied.client()
    client.write(b"POST http://a.test/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def without_end() -> None:
        while True:
            client.write(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
            await client.writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(without_end(), 20)


async def test_one_client_that_hangs_holds_up_no_other(proxied: ProxyFixture) -> None:
    for state in STATES[:4]:
        await state(proxied)
    port = await proxied.server(WebServer())
    proxied.allow(f"a.test:{port}")
    client = await proxied.client()
    assert (await client.ask("GET", f"http://a.test:{port}/"))[0] == 200


async def test_a_listener_that_was_shut_down_from_inside_ends_the_service_alone(
    proxied: ProxyFixture, caplog: pytest.LogCaptureFixture
) -> None:
    client = await proxied.client()
    await client.refusal("GET", "/")
    serving = proxied.proxy._accepting
    assert serving is not None
    listener = socket.socket(fileno=os.dup(_door_of(proxied)))
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    await asyncio.wait([serving], timeout=20)
    assert serving.done()
    assert caplog.text.count("cannot accept a connection") <= 1


def _door_of(proxied: ProxyFixture) -> int:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            copy = os.dup(int(entry.name))
        except OSError:
            continue
        try:
            found = socket.socket(fileno=copy)
        except OSError:  # no socket
            os.close(copy)
            continue
        with found:
            try:
                listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and found.getsockname()[1] == proxied.port:
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError


# ------------------------------------------------------------------ the audit


async def test_no_answer_waits_for_the_audit_and_the_end_does() -> None:
    gate, written = asyncio.Event(), []

    async def slow(line: AuditEntry) -> None:
        await gate.wait()
        written.append(line)

    writer = AuditWriter(slow)
    line = AuditEntry("loop_1", "now", "http", "a.test", 80, "refused")
    for _ in range(PENDING):
        await asyncio.wait_for(writer.wait_for_room(), 20)
        writer.append(line)
    room = asyncio.ensure_future(writer.wait_for_room())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.append(line)
    writer.append(line)
    gate.set()
    await writer.close()
    assert room.done()
    assert len(written) == PENDING + 2


async def test_an_audit_that_fails_loses_its_line_alone(caplog: pytest.LogCaptureFixture) -> None:
    written = []

    async def audit(line: AuditEntry) -> None:
        if line.host == "bad.test":
            raise RuntimeError("no room")
        written.append(line.host)

    writer = AuditWriter(audit)
    for host in ("a.test", "bad.test", "b.test"):
        writer.append(AuditEntry("loop_1", "now", "http", host, 80, "refused"))
    await writer.close()
    assert written == ["a.test", "b.test"]
    assert "was lost" in caplog.text


async def test_what_is_audited_of_a_name_that_is_none_is_bounded(proxied: ProxyFixture) -> None:
    client = await proxied.client()
    await client.refusal("CONNECT", "a" * 5000 + ":443")
    [line] = await proxied.audited()
    assert len(line.host) == 300
