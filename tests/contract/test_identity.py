"""Several people on one server, told apart by the deployment's own identity provider."""

from collections.abc import Callable

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text
from tests.support.server import JupyterServer

People = Callable[[str], Caller]


async def test_the_identity_providers_name_owns_the_loop(person: People, somebody: str) -> None:
    loop = await person(somebody).create()
    assert loop["created_by"] == somebody


async def test_another_user_gets_not_loop_owner_on_every_route(
    person: People, somebody: str, model: MockModel
) -> None:
    script = model.script([Text("a"), Hold(Gate())])
    owner, other = person(somebody), person("mallory")
    loop_id = await owner.loop()
    async with owner.send(loop_id, script.message()) as stream:
        await stream.until("assistant_delta")
        for method, rest in (
            ("GET", ""), ("DELETE", ""), ("POST", "/messages"), ("GET", "/messages"),
            ("GET", "/events"), ("POST", "/interrupt"), ("POST", "/choices/choice_x"),
            ("GET", "/rules"), ("DELETE", "/rules/rule_x"), ("GET", "/transcript"),
            ("GET", "/files"), ("GET", "/files/a"), ("PUT", "/files/a"), ("GET", "/network"),
        ):  # fmt: skip
            answer = await other.request(method, f"/loops/{loop_id}{rest}")
            expect(answer, 403, "not_loop_owner")
        state = await owner.state(loop_id)
        assert (state["busy"], state["archived"]) == (True, False)


async def test_ownership_comes_before_the_body_and_existence_before_ownership(
    person: People, somebody: str
) -> None:
    loop_id = await person(somebody).loop()
    other = person("mallory")
    answer = await other.post(f"/loops/{loop_id}/messages", content=b"{")
    expect(answer, 403, "not_loop_owner")
    answer = await other.post("/loops/loop_unknown/messages", content=b"{")
    expect(answer, 404, "loop_not_found")


async def test_a_list_shows_the_callers_own_loops_only(person: People, somebody: str) -> None:
    loop_id = await person(somebody).loop()
    await person("neighbour").loop()
    page = (await person(somebody).get("/loops")).json()
    assert [loop["id"] for loop in page["data"]] == [loop_id]


async def test_another_users_loop_is_no_cursor(person: People, somebody: str) -> None:
    loop_id = await person(somebody).loop()
    for side in ("after", "before"):
        answer = await person("mallory").get("/loops", params={side: loop_id})
        expect(answer, 400, "invalid_cursor")


async def test_a_token_acts_as_the_user_who_made_it(
    person: People, somebody: str, team_server: JupyterServer, recorder: Recorder
) -> None:
    answer = await person(somebody).post("/me/tokens", json={})
    assert answer.status_code == 201, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    loop_id = await person("neighbour").loop()
    async with Caller(team_server, recorder, headers=headers) as program:
        assert (await program.create())["created_by"] == somebody
        expect(await program.get(f"/loops/{loop_id}"), 403, "not_loop_owner")


async def test_somebody_elses_token_is_not_listed_and_cannot_be_deleted(
    person: People, somebody: str
) -> None:
    made = (await person(somebody).post("/me/tokens", json={})).json()
    mallory = person("mallory")
    listed = (await mallory.get("/me/tokens")).json()["tokens"]
    assert made["tokenId"] not in [t["tokenId"] for t in listed]
    expect(await mallory.delete(f"/me/tokens/{made['tokenId']}"), 404, "token_not_found")
    assert (await person(somebody).delete(f"/me/tokens/{made['tokenId']}")).status_code == 204


async def test_an_idempotency_key_is_scoped_to_the_caller(person: People, somebody: str) -> None:
    turns = []
    for name in (somebody, f"{somebody}-2"):
        caller = person(name)
        events = await caller.turn(await caller.loop(), "hello", key="the same key")
        turns.append(events[-1].data["turn_id"])
    assert turns[0] != turns[1]
