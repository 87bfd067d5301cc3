"""Which addresses are dialled: resolved once, all of them public, none of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence

import pytest

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.sandboxes.proxy import resolver
from loopat_jupyter.sandboxes.proxy.dialer import Dialer, Unreachable, is_public
from loopat_jupyter.sandboxes.proxy.resolver import LOOKUPS, Resolver
from tests.sandboxes.proxy.conftest import ProxyFixture, WebServer


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1",
        "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1",
        "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1",
        "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1",
        "2001:db8::1", "3fff::1", "5f00::1", "4000::1", "not an address", "",
    ],
)  # fmt: skip
def test_an_address_that_leads_back_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_this_machines_own_public_address_is_not_public(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe(socket.socket):
        def connect(self, address: tuple[str, int]) -> None:
            self.peer = address[0]

        def getsockname(self) -> tuple[str, int]:
            return (self.peer if self.peer == "8.8.8.8" else "8.8.4.4", 1)

    monkeypatch.setattr("loopat_jupyter.sandboxes.proxy.dialer.socket.socket", Probe)
    assert not is_public("8.8.8.8")
    assert is_public("1.1.1.1")


def answers(*addresses: str) -> Dialer:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return Dialer(resolve)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",), ("8.8.8.8", "127.0.0.1"), ("10.0.0.1", "8.8.8.8"),
        ("2606:4700:4700::1111", "::1"), ("8.8.8.8", "8.8.4.4", "169.254.169.254"),
    ],
)  # fmt: skip
async def test_a_name_with_one_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    with pytest.raises(Unreachable) as refused:
        await answers(*addresses).dial(Destination("rebinding.test", 443))
    assert refused.value.refused
    assert "private networks" in refused.value.message
    for address in addresses:
        assert address not in refused.value.message


@pytest.mark.parametrize("addresses", [(), ("not an address",)])
async def test_a_name_without_address_is_not_dialled(addresses: tuple[str, ...]) -> None:
    with pytest.raises(Unreachable):
        await answers(*addresses).dial(Destination("nothing.test", 443))


async def test_a_resolver_that_changes_its_mind_is_asked_once(proxied: ProxyFixture) -> None:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2"] if len(asked) == 1 else ["127.0.0.1"]

    good = await proxied.server(WebServer())  # listens on 127.0.0.1 alone
    dialer = Dialer(resolve, lambda address: address == "127.0.0.2")
    with pytest.raises(Unreachable) as failed:  # dialled at the address found first
        await dialer.dial(Destination("a.test", good))
    assert asked == ["a.test"]
    assert not failed.value.refused
    assert "127.0.0" not in failed.value.message


async def test_the_next_address_is_tried_where_one_does_not_answer(proxied: ProxyFixture) -> None:
    port = await proxied.server(WebServer())

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    _, writer = await Dialer(resolve, lambda _: True).dial(Destination("a.test", port))
    assert writer.get_extra_info("peername")[0] == "127.0.0.1"
    writer.transport.abort()


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:80", "169.254.169.254:80", "[::1]:80", "[::ffff:127.0.0.1]:80",
        "[::ffff:169.254.169.254]:80", "[::FFFF:7F00:1]:80", "10.1.2.3:443", "LOCALHOST:80",
        "localhost.:80", "a.localhost:80", "127.0.0.1.:80", "[64:ff9b::7f00:1]:80", "0.0.0.0:80",
    ],
)  # fmt: skip
async def test_no_grant_reaches_the_servers_own_networks(
    proxied: ProxyFixture, target: str
) -> None:
    proxied.proxy._egress._dialer = Dialer()
    proxied.allow("127.0.0.1:80", "169.254.169.254:80", "[::1]:80", "localhost:80")
    client = await proxied.client()
    status, code, message = await client.refusal("CONNECT", target)
    assert (status, code) == (403, "not_public")
    assert "no sandbox may reach" in message
    assert proxied.proxy.drain_denied() == []  # no person is asked about these
    [line] = await proxied.audited()
    assert line.verdict == "refused"


async def test_an_allowed_name_that_leads_inside_is_refused(proxied: ProxyFixture) -> None:
    port = await proxied.server(WebServer())

    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    proxied.proxy._egress._dialer = Dialer(resolve)
    proxied.allow(f"rebinding.test:{port}")
    client = await proxied.client()
    refused = await client.refusal("GET", f"http://rebinding.test:{port}/")
    assert refused[:2] == (403, "not_public")


# ------------------------------------------------------------------ looking names up


async def test_slow_lookups_hold_up_no_other_loop_and_not_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, slow = threading.Event(), threading.Semaphore(0)
    threads: dict[bytes, list[threading.Thread]] = {b"slow.test": [], b"quick.test": []}
    others = threading.enumerate()

    def getaddrinfo(host: bytes, port: int, **_: object) -> list[object]:
        threads[host].append(threading.current_thread())
        if host == b"slow.test":
            slow.release()
            released.wait(20)
        return [(0, 0, 0, "", ("8.8.8.8", port))]

    monkeypatch.setattr(resolver.socket, "getaddrinfo", getaddrinfo)
    one, other = Resolver(), Resolver()
    waiting = [asyncio.ensure_future(one("slow.test", 443)) for _ in range(40)]
    try:
        for _ in range(LOOKUPS):
            assert await asyncio.to_thread(slow.acquire, timeout=20)
        assert not slow.acquire(blocking=False)
        assert await other("quick.test", 443) == ["8.8.8.8"]
        assert await asyncio.to_thread(lambda: "the server's own work") != ""
        for thread in threads[b"quick.test"]:  # it may still be ending
            await asyncio.to_thread(thread.join)
        running = [t for t in threading.enumerate() if t.name == "loopat-lookup"]
        assert set(running) - set(others) == set(threads[b"slow.test"])
        assert len(threads[b"slow.test"]) == LOOKUPS
        for task in waiting:  # giving up frees no place: the threads are still there
            task.cancel()
        await asyncio.wait(waiting)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await one("quick.test", 443)
    finally:
        released.set()
    assert await one("quick.test", 443) == ["8.8.8.8"]


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(resolver.socket, "getaddrinfo")
    assert await Resolver()("8.8.8.8", 53) == ["8.8.8.8"]
    assert await Resolver()("2606:4700::1", 53) == ["2606:4700::1"]


async def test_a_lookup_that_fails_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(resolver.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(OSError, match="no such name"):
        await Resolver()("missing.test", 443)
    with pytest.raises(Unreachable, match="has no address"):
        await Dialer().dial(Destination("missing.test", 443))
