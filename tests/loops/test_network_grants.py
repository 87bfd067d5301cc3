"""Where a turn's sandbox may go: remembered is for the loop, once is for the turn."""

from __future__ import annotations

import json

import pytest

from loopat_jupyter.loops.destinations import Destination
from loopat_jupyter.loops.permissions import evaluate, is_remembered, new_rule
from loopat_jupyter.loops.ports.engine import PermissionDecision, PermissionMode, Turn, TurnHost
from tests.loops.conftest import Domain, FakeNetwork

ONCE, ALWAYS = Destination("once.test", 443), Destination("always.test", 443)


async def ask(host: TurnHost, destination: Destination) -> PermissionDecision:
    return await host.permission(
        f"call/{destination}",
        "Network",
        {"host": destination.host, "port": destination.port},
        kind="network",
        title=f"Reach {destination}",
        display_name="Network",
    )


class Asking:
    """A turn that asks for both and then looks where it may go."""

    def __init__(self) -> None:
        self.during: set[Destination] = set()
        self.network: FakeNetwork | None = None
        self.verdicts: list[PermissionDecision] = []

    async def __call__(self, turn: Turn, host: TurnHost) -> None:
        self.verdicts = [await ask(host, ONCE), await ask(host, ALWAYS)]
        sandbox = await host.sandbox()
        self.network = sandbox.network  # type: ignore[assignment]
        self.during = set(self.network.permitted)  # type: ignore[union-attr]


async def allowed(domain: Domain, turn_id: str, loop, *, number: int, remember: bool) -> None:
    """Allow the turn's ``number``-th choice."""
    while True:
        asked = [e for e in domain.events if (e.name, e.turn_id) == ("requires_choice", turn_id)]
        if len(asked) > number:
            break
        domain._arrived.clear()
        await domain._arrived.wait()
    body = {"allow": True} | ({"remember": "loop"} if remember else {})
    choice_id = json.loads(asked[number].data)["choice_id"]
    await domain.service.resolve_choice(loop, choice_id, body, "api")


async def test_once_is_for_the_turn_and_remembered_for_the_loop(domain: Domain) -> None:
    asking = Asking()
    domain.engine.script = asking
    loop = await domain.loop()
    turn = await domain.send(loop)
    await allowed(domain, turn, loop, number=0, remember=False)
    await allowed(domain, turn, loop, number=1, remember=True)
    await domain.until("done", turn)
    assert asking.during == {ONCE, ALWAYS}
    assert asking.network is not None
    assert asking.network.permitted == {ALWAYS}

    turn = await domain.send(loop, permission_mode="bypassPermissions")
    await domain.until("done", turn)
    assert asking.during == {ALWAYS}
    assert [verdict.allowed for verdict in asking.verdicts] == [False, False]
    assert "nobody is asked" in asking.verdicts[0].denial
    assert asking.verdicts[0].denied_by == "policy"

    turn = await domain.send(loop, permission_mode="plan")
    await domain.until("done", turn)
    assert asking.during == asking.network.permitted == set()


async def test_what_was_allowed_once_ends_with_a_turn_that_fails(domain: Domain) -> None:
    asking = Asking()

    async def fail(turn: Turn, host: TurnHost) -> None:
        await asking(turn, host)
        raise RuntimeError

    domain.engine.script = fail
    loop = await domain.loop()
    turn = await domain.send(loop)
    for number in range(2):
        await allowed(domain, turn, loop, number=number, remember=False)
    await domain.until("error", turn)
    assert asking.during == {ONCE, ALWAYS}
    assert asking.network is not None
    assert asking.network.permitted == set()


@pytest.mark.parametrize(
    ("mode", "new", "remembered"),
    [
        ("default", "ask", "run"),
        ("acceptEdits", "ask", "run"),
        ("plan", "deny", "deny"),
        ("dontAsk", "deny", "run"),
        ("auto", "deny", "run"),
        ("bypassPermissions", "deny", "run"),
    ],
)
def test_a_mode_that_asks_nobody_makes_no_hole(
    mode: PermissionMode, new: str, remembered: str
) -> None:
    for known, decision in ((False, new), (True, remembered)):
        assert evaluate(mode, "network", inside_workdir=False, remembered=known) == decision


def test_a_rule_of_the_network_is_one_host_and_port() -> None:
    rule = new_rule("Network", {"host": "a.test", "port": 443})
    assert rule is not None
    assert rule.prefix == "a.test:443"
    six = new_rule("Network", {"host": "2001:db8::1", "port": 443})
    assert six is not None
    assert six.prefix == "[2001:db8::1]:443"
    assert is_remembered([rule], "Network", {"host": "a.test", "port": 443})
    for host, port in (("a.test", 80), ("b.a.test", 443), ("test", 443)):
        assert not is_remembered([rule], "Network", {"host": host, "port": port})
    assert not is_remembered([rule], "Bash", {"command": "a.test:443"})


@pytest.mark.parametrize(
    "given", [{}, {"host": "a.test"}, {"host": "a.test", "port": "443"}, {"host": 1, "port": 443}]
)
def test_what_names_no_destination_is_never_remembered(given: dict[str, object]) -> None:
    assert new_rule("Network", given) is None
    rule = new_rule("Network", {"host": "a.test", "port": 443})
    assert rule is not None
    assert not is_remembered([rule], "Network", given)
