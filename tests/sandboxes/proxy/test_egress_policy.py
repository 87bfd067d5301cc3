"""Requests that wait at the gate while a person is asked: for a while, and not too many."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.sandboxes.proxy import egress_policy
from loopat_jupyter.sandboxes.proxy.dialer import Dialer
from tests.sandboxes.proxy.conftest import Client, Ground, WebServer


class Person:
    """Is asked, and answers when the test says so."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.asked: list[Destination] = []
        self.heard = asyncio.Condition()
        self.answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.left = 0
        ground.broker.set_approval_callback(self)

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
        self.ground.broker.set_grants(self.asked)
        self.answer.set_result(None)


async def held(ground: Ground, person: Person, target: str) -> Client:
    client = await ground.client()
    client.write(f"GET http://{target}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await person.until(asked=len(person.asked) + 1)
    return client


async def test_a_request_goes_through_when_it_is_allowed_while_it_waits(ground: Ground) -> None:
    port = await ground.server(WebServer())
    person = Person(ground)
    client = await held(ground, person, f"A.Test:{port}")
    assert person.asked == [Destination("a.test", port)]
    person.allow()
    assert (await client.answer())[::2] == (200, b"hello")
    [line] = await ground.audited()
    assert line.verdict == "allowed"


async def test_a_tunnel_waits_as_well_and_is_told_why_not(ground: Ground) -> None:
    person = Person(ground)
    person.answer.set_result("the user said no.")
    client = await ground.client()
    status, code, message = await client.refusal("CONNECT", "a.test:443")
    assert (status, code) == (403, "not_allowed")
    assert message == "a.test:443 was refused: the user said no."


async def test_an_answer_that_permits_nothing_lets_nothing_through(ground: Ground) -> None:
    person = Person(ground)
    person.answer.set_result(None)
    client = await ground.client()
    assert (await client.refusal("GET", "http://a.test/"))[:2] == (403, "not_allowed")


async def test_nobody_waits_for_ever(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_policy, "APPROVAL_TIMEOUT", 0.05)
    Person(ground)
    client = await ground.client()
    status, code, message = await client.refusal("GET", "http://a.test/")
    assert (status, code) == (403, "not_allowed")
    assert "is being asked" in message
    assert "try again later" in message


async def test_too_many_that_wait_are_refused_at_once(ground: Ground) -> None:
    person = Person(ground)
    clients = [await held(ground, person, f"h{n}.test") for n in range(egress_policy.WAITING_MAX)]
    more = await ground.client()
    status, code, _ = await more.refusal("GET", "http://more.test/")
    assert (status, code) == (403, "not_allowed")
    assert len(person.asked) == egress_policy.WAITING_MAX
    person.answer.set_result("no.")
    for client in clients:
        assert (await client.answer())[0] == 403
    assert ground.broker.drain_denied() == [Destination("more.test", 80)]


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_who_leaves_waits_no_longer(ground: Ground, method: str) -> None:
    person = Person(ground)
    client = await ground.client()
    target = "http://a.test/" if method == "GET" else "a.test:443"
    client.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await person.until(asked=1)
    client.writer.transport.abort()
    await person.until(left=1)


async def test_the_end_of_the_sandbox_ends_the_waiting(ground: Ground) -> None:
    person = Person(ground)
    await held(ground, person, "a.test")
    [line] = await ground.audited()
    assert person.left == 1
    assert line.verdict == "failed"


async def test_what_is_not_public_is_not_asked_about() -> None:
    async with AsyncExitStack() as stack:
        ground = Ground(stack, dialler=Dialer()).open()
        await nothing_local_is_asked_about(ground)


async def nothing_local_is_asked_about(ground: Ground) -> None:
    person = Person(ground)
    for target in ("localhost:80", "127.0.0.1:80", "169.254.169.254:80"):
        client = await ground.client()
        status, _, _ = await client.refusal("CONNECT", target)
        assert status in (400, 403)
    assert person.asked == []
