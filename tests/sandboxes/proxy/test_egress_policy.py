"""Requests that wait for a person's decision: for a bounded time, and a bounded number."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.sandboxes.proxy import egress_policy
from loopat_jupyter.sandboxes.proxy.dialer import Dialer
from tests.sandboxes.proxy.conftest import Client, ProxyFixture, WebServer


class Person:
    """An approval callback that decides when the test lets it."""

    def __init__(self, proxied: ProxyFixture) -> None:
        self.proxied = proxied
        self.asked: list[Destination] = []
        self.heard = asyncio.Condition()
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.left = 0
        proxied.proxy.set_approval_callback(self)

    async def __call__(self, destination: Destination) -> str | None:
        async with self.heard:
            self.asked.append(destination)
            self.heard.notify_all()
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            async with self.heard:
                self.left += 1
                self.heard.notify_all()
            raise

    async def until(self, *, asked: int = 0, left: int = 0) -> None:
        async with asyncio.timeout(10), self.heard:
            await self.heard.wait_for(lambda: len(self.asked) >= asked and self.left >= left)

    def allow(self) -> None:
        self.proxied.proxy.set_grants(self.asked)
        self.answer.set_result(None)


async def held(proxied: ProxyFixture, person: Person, target: str) -> Client:
    client = await proxied.client()
    client.write(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await person.until(asked=len(person.asked) + 1)
    return client


async def test_a_request_goes_through_when_it_is_allowed_while_it_waits(
    proxied: ProxyFixture,
) -> None:
    port = await proxied.server(WebServer())
    person = Person(proxied)
    client = await held(proxied, person, f"A.Test:{port}")
    assert person.asked == [Destination("a.test", port)]
    person.allow()
    assert (await client.answer())[::2] == (200, b"hello")
    [line] = await proxied.audited()
    assert line.verdict == "allowed"


async def test_a_tunnel_waits_as_well_and_gets_the_reason(proxied: ProxyFixture) -> None:
    person = Person(proxied)
    person.answer.set_result("the user said no.")
    client = await proxied.client()
    status, code, message = await client.refusal("CONNECT", "a.test:443")
    assert (status, code) == (403, "not_allowed")
    assert message == "a.test:443 was refused: the user said no."


async def test_an_answer_that_permits_nothing_lets_nothing_through(proxied: ProxyFixture) -> None:
    person = Person(proxied)
    person.answer.set_result(None)
    client = await proxied.client()
    assert (await client.refusal("GET", "http://a.test/"))[:2] == (403, "not_allowed")


async def test_a_wait_for_a_decision_is_bounded(
    proxied: ProxyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_policy, "APPROVAL_TIMEOUT", 0.05)
    Person(proxied)
    client = await proxied.client()
    status, code, message = await client.refusal("GET", "http://a.test/")
    assert (status, code) == (403, "not_allowed")
    assert "is being asked" in message
    assert "try again later" in message


async def test_too_many_that_wait_are_refused_at_once(proxied: ProxyFixture) -> None:
    person = Person(proxied)
    clients = [await held(proxied, person, f"h{n}.test") for n in range(egress_policy.WAITING_MAX)]
    more = await proxied.client()
    status, code, _ = await more.refusal("GET", "http://more.test/")
    assert (status, code) == (403, "not_allowed")
    assert len(person.asked) == egress_policy.WAITING_MAX
    person.answer.set_result("no.")
    for client in clients:
        assert (await client.answer())[0] == 403
    assert proxied.proxy.drain_denied() == [Destination("more.test", 80)]


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_who_leaves_waits_no_longer(proxied: ProxyFixture, method: str) -> None:
    person = Person(proxied)
    client = await proxied.client()
    target = "http://a.test/" if method == "GET" else "a.test:443"
    client.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await person.until(asked=1)
    client.writer.transport.abort()
    await person.until(left=1)


async def test_the_end_of_the_sandbox_ends_the_waiting(proxied: ProxyFixture) -> None:
    person = Person(proxied)
    await held(proxied, person, "a.test")
    [line] = await proxied.audited()
    assert person.left == 1
    assert line.verdict == "failed"


async def test_what_is_not_public_is_not_asked_about() -> None:
    async with AsyncExitStack() as stack:
        proxied = ProxyFixture(stack, dialer=Dialer()).open()
        await nothing_local_is_asked_about(proxied)


async def nothing_local_is_asked_about(proxied: ProxyFixture) -> None:
    person = Person(proxied)
    for target in ("localhost:80", "127.0.0.1:80", "169.254.169.254:80"):
        client = await proxied.client()
        status, _, _ = await client.refusal("CONNECT", target)
        assert status in (400, 403)
    assert person.asked == []
