"""Jupyter's authorizer is asked about every route, with the action and resource of that route."""

import json
from collections.abc import Callable

import pytest

from tests.support.caller import Caller, expect
from tests.support.server import JupyterServer

People = Callable[[str], Caller]
READ, WRITE = "read", "write"

ROUTES = [
    ("POST", "/me/tokens", WRITE),
    ("GET", "/me/tokens", READ),
    ("DELETE", "/me/tokens/tok_x", WRITE),
    ("POST", "/loops", WRITE),
    ("GET", "/loops", READ),
    ("GET", "/loops/{loop}", READ),
    ("DELETE", "/loops/{loop}", WRITE),
    ("GET", "/loops/{loop}/messages", READ),
    ("POST", "/loops/{loop}/messages", WRITE),
    ("GET", "/loops/{loop}/events", READ),
    ("POST", "/loops/{loop}/choices/choice_x", WRITE),
    ("POST", "/loops/{loop}/interrupt", WRITE),
    ("GET", "/loops/{loop}/rules", READ),
    ("DELETE", "/loops/{loop}/rules/rule_x", WRITE),
    ("GET", "/loops/{loop}/network", READ),
    ("GET", "/loops/{loop}/transcript", READ),
    ("GET", "/loops/{loop}/files", READ),
    ("PUT", "/loops/{loop}/files/a.txt", WRITE),
    ("GET", "/loops/{loop}/files/a.txt", READ),
]
# Each verb after each other kind: a remembered first caller shows in one of these orders.
ORDERS = {"forward": ROUTES, "backward": ROUTES[::-1], "interleaved": ROUTES[::2] + ROUTES[1::2]}


def asked(server: JupyterServer, name: str) -> list[list[str]]:
    """What the authorizer was asked about this person: method, path, user, action, resource."""
    lines = (server.directory / "audit.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry[2] == name]


@pytest.mark.parametrize("order", ORDERS)
async def test_the_authorizer_sees_the_action_and_resource_of_each_route(
    person: People, somebody: str, team_server: JupyterServer, order: str
) -> None:
    caller = person(somebody)
    loop_id = await person("owner-of-the-loop").loop()
    for method, path, _ in ORDERS[order]:
        await caller.request(method, path.format(loop=loop_id), json={"content": "x"})
    own = [e for e in asked(team_server, somebody) if "loopat" in e[1]]
    prefix = "/a%40b/loopat/api/v1"
    seen = [(m, p.removeprefix(prefix), a) for m, p, _, a, _ in own]
    assert seen == [(m, p.format(loop=loop_id), a) for m, p, a in ORDERS[order]]
    resources = {p.split("/")[1]: set() for _, p, _ in ROUTES}  # type: ignore[var-annotated]
    for _, path, _, _, resource in own:
        resources[path.removeprefix(prefix).split("/")[1]].add(resource)
    assert all(len(names) == 1 for names in resources.values()), resources
    assert all(next(iter(names)).startswith("loopat") for names in resources.values()), resources


async def test_a_refusal_is_forbidden_on_every_route(person: People, somebody: str) -> None:
    caller = person(somebody)
    loop_id = await caller.loop()
    for method, path, _ in ROUTES:
        answer = await caller.request(
            method, path.format(loop=loop_id), json={"content": "x"}, headers={"X-Refuse": "all"}
        )
        expect(answer, 403, "forbidden")
    state = await caller.state(loop_id)
    assert (state["archived"], state["turn_count"]) == (False, 0)


async def test_who_may_only_read_cannot_write(
    person: People, somebody: str, team_server: JupyterServer
) -> None:
    caller = person(somebody)
    loop_id = await caller.loop()
    (team_server.workdir(loop_id) / "a.txt").touch()
    for method, path, action in ROUTES:
        if path.endswith("/events"):
            continue
        answer = await caller.request(
            method, path.format(loop=loop_id), json={}, headers={"X-Refuse": WRITE}
        )
        if action == WRITE:
            expect(answer, 403, "forbidden")
        else:
            assert answer.status_code == 200, answer.text


async def test_a_token_is_subject_to_the_authorizer_as_its_user(
    person: People, somebody: str, team_server: JupyterServer
) -> None:
    token = (await person(somebody).post("/me/tokens", json={})).json()["token"]
    bearer = {"Authorization": f"Bearer {token}", "X-User": ""}
    answer = await person("nobody").get("/loops", headers={**bearer, "X-Refuse": "all"})
    expect(answer, 403, "forbidden")
    assert asked(team_server, somebody)[-1][3] == READ
