"""API tokens: made by a browser, shown once, stored hashed, gone at once."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.mock_model import Gate, Hold, MockModel, Text
from tests.support.server import JupyterServer

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def mint(browser: Caller, **body: Any) -> dict[str, Any]:
    answer = await browser.post("/me/tokens", json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


@pytest.fixture
async def program(
    browser: Caller, server: JupyterServer, recorder: Recorder
) -> AsyncIterator[tuple[Caller, str]]:
    """A program with a token of its own, and that token's id."""
    token = await mint(browser)
    async with Caller(
        server,
        recorder,
        headers={"Authorization": f"Bearer {token['token']}"},
        settle_with=server.session,
    ) as caller:
        yield caller, token["tokenId"]


async def test_a_created_token_is_shown_with_its_id_label_and_time(browser: Caller) -> None:
    created = await mint(browser, label="  ci job  ")
    assert set(created) == {"tokenId", "token", "label", "createdAt"}
    assert re.fullmatch(r"tok_[0-9a-f]{12}", created["tokenId"])
    assert re.fullmatch(r"la_[0-9a-f]{48}", created["token"])
    assert created["label"] == "ci job"
    assert TIMESTAMP.fullmatch(created["createdAt"])


@pytest.mark.parametrize("body", [{}, {"label": ""}, {"label": "   "}, {"label": None}])
async def test_an_empty_label_becomes_default(browser: Caller, body: dict[str, Any]) -> None:
    assert (await mint(browser, **body))["label"] == "default"


async def test_a_label_has_at_most_100_characters_after_trimming(browser: Caller) -> None:
    assert (await mint(browser, label=f" {'é' * 100} "))["label"] == "é" * 100
    expect(await browser.post("/me/tokens", json={"label": "x" * 101}), 400, "invalid_parameter")


@pytest.mark.parametrize("label", [1, True, ["a"], {"a": "b"}])
async def test_a_label_of_a_wrong_type_is_refused(browser: Caller, label: Any) -> None:
    expect(await browser.post("/me/tokens", json={"label": label}), 400, "invalid_parameter")


async def test_the_list_is_newest_first_and_never_shows_a_token(browser: Caller) -> None:
    made = [await mint(browser, label=f"n{n}") for n in range(3)]
    answer = await browser.get("/me/tokens")
    assert answer.status_code == 200
    assert set(answer.json()) == {"tokens"}
    tokens = answer.json()["tokens"]
    assert [t["tokenId"] for t in tokens[:3]] == [t["tokenId"] for t in reversed(made)]
    for token in tokens:
        assert {"tokenId", "label", "createdAt"} <= set(token)
        assert set(token) <= {"tokenId", "label", "createdAt", "lastUsedAt"}
        assert token.get("lastUsedAt", "") is not None
    for token in made:
        assert token["token"] not in answer.text


async def test_last_used_appears_once_the_token_was_used(
    browser: Caller, program: tuple[Caller, str]
) -> None:
    caller, token_id = program

    async def entry() -> dict[str, Any]:
        tokens = (await browser.get("/me/tokens")).json()["tokens"]
        return next(t for t in tokens if t["tokenId"] == token_id)

    assert "lastUsedAt" not in await entry()
    assert (await caller.get("/loops")).status_code == 200
    assert TIMESTAMP.fullmatch((await entry())["lastUsedAt"])


async def test_only_the_hash_of_a_token_is_stored(browser: Caller, server: JupyterServer) -> None:
    token = (await mint(browser))["token"]
    digest = hashlib.sha256(token.encode())
    files = [f.read_bytes() for f in server.home.glob("loopat.db*")]
    assert files
    assert not any(token.encode() in content for content in files)
    assert not any(token[3:].encode() in content for content in files)
    assert any(
        digest.digest() in content or digest.hexdigest().encode() in content for content in files
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/me/tokens"), ("GET", "/me/tokens"), ("DELETE", "/me/tokens/tok_000000000000")],
)
async def test_token_routes_are_for_a_browser_session_only(
    api: Caller, session: Caller, nobody: Caller, method: str, path: str
) -> None:
    for caller in (api, session, nobody):
        expect(await caller.request(method, path), 401, "missing_credentials")


async def test_a_server_token_beside_a_cookie_does_not_open_the_token_routes(
    api: Caller, server: JupyterServer, recorder: Recorder, api_token: str
) -> None:
    cookies, headers = server.log_in()
    bearer = {**headers, "Authorization": f"Bearer {api_token}"}
    async with Caller(server, recorder, headers=bearer, cookies=cookies) as caller:
        expect(await caller.post("/me/tokens", json={}), 401, "missing_credentials")


async def test_deleting_an_unknown_token_is_token_not_found(browser: Caller) -> None:
    for token_id in ("tok_000000000000", "nonsense", "%2e%2e", "a%40b"):
        expect(await browser.delete(f"/me/tokens/{token_id}"), 404, "token_not_found")


async def test_a_deleted_token_is_gone_at_once(
    browser: Caller, program: tuple[Caller, str]
) -> None:
    caller, token_id = program
    assert (await caller.get("/loops")).status_code == 200
    answer = await browser.delete(f"/me/tokens/{token_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    expect(await caller.get("/loops"), 401, "invalid_token")
    tokens = (await browser.get("/me/tokens")).json()["tokens"]
    assert token_id not in [t["tokenId"] for t in tokens]
    expect(await browser.delete(f"/me/tokens/{token_id}"), 404, "token_not_found")


async def test_deleting_a_token_ends_its_streams_within_a_second_and_turns_go_on(
    browser: Caller, session: Caller, program: tuple[Caller, str], model: MockModel
) -> None:
    caller, token_id = program
    gate = Gate()
    script = model.script([Text("before "), Hold(gate), Text("after")])
    loop_id = await caller.loop()
    async with (
        caller.watch(loop_id) as watching,
        session.watch(loop_id) as other,
        caller.send(loop_id, script.message()) as sending,
    ):
        watching.may_be_cut = sending.may_be_cut = True
        await sending.until("assistant_delta")
        await watching.until("assistant_delta")
        assert (await browser.delete(f"/me/tokens/{token_id}")).status_code == 204
        revoked = time.monotonic()
        for stream in (sending, watching):
            await stream.rest(5)
        assert time.monotonic() - revoked < 1.5  # the second of the contract, and a busy machine
        gate.open()
        await other.until("done")
        assert other.text == "before after"


async def test_a_stream_of_another_token_lives_on_when_one_is_deleted(
    browser: Caller, api: Caller, program: tuple[Caller, str]
) -> None:
    _, token_id = program
    loop_id = await api.loop()
    async with api.watch(loop_id) as watching:
        assert (await browser.delete(f"/me/tokens/{token_id}")).status_code == 204
        await asyncio.gather(watching.until("done"), api.turn(loop_id, "still there?"))
