"""Who the caller is, and what a request without the right credentials gets."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.caller import Caller, Recorder, expect
from tests.support.server import JupyterServer

UNAUTHENTICATED = {"/openapi.json", "/docs"}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every ``(METHOD, path)`` of an OpenAPI document, path parameters filled with an unknown."""
    for path, item in document["paths"].items():
        for method in item:
            if method in {"get", "post", "put", "patch", "delete"}:
                yield method.upper(), re.sub(r"\{[^}]+\}", "unknown", path)


async def test_every_operation_but_the_documents_needs_credentials(nobody: Caller) -> None:
    document = (await nobody.get("/openapi.json")).json()
    checked = list(operations(document))
    assert len(checked) >= 14, checked
    for method, path in checked:
        answer = await nobody.request(method, path)
        if path in UNAUTHENTICATED:
            assert answer.status_code == 200, (method, path)
        else:
            expect(answer, 401, "missing_credentials")


@pytest.mark.parametrize("path", ["", "/", "/nothing", "/loops/x/nothing", "/me", "/docs/x"])
async def test_an_unknown_route_needs_credentials_too(
    nobody: Caller, session: Caller, path: str
) -> None:
    expect(await nobody.get(path), 401, "missing_credentials")
    expect(await session.get(path), 404, "not_found")


async def test_unauthenticated_requests_are_never_redirected(nobody: Caller) -> None:
    for accept in ("text/html", "application/json", "text/event-stream"):
        answer = await nobody.get("/loops", headers={"Accept": accept})
        assert "Location" not in answer.headers
        expect(answer, 401, "missing_credentials")


@pytest.mark.parametrize(
    "token", ["la_" + "0" * 48, "la_", "la_x", "la_" + "g" * 48, "la_" + "0" * 4000]
)
async def test_an_unknown_token_is_invalid_token(
    server: JupyterServer, recorder: Recorder, token: str
) -> None:
    async with Caller(server, recorder, headers={"Authorization": f"Bearer {token}"}) as caller:
        for method, path in (("GET", "/loops"), ("POST", "/loops"), ("GET", "/nothing")):
            expect(await caller.request(method, path), 401, "invalid_token")


@pytest.mark.parametrize("value", ["token wrong", "Bearer wrong", "Basic eDp5", "Bearer", ""])
async def test_other_credentials_that_do_not_count_are_missing(
    server: JupyterServer, recorder: Recorder, value: str
) -> None:
    async with Caller(server, recorder, headers={"Authorization": value}) as caller:
        expect(await caller.get("/loops"), 401, "missing_credentials")


async def test_an_invalid_token_is_refused_even_beside_a_good_cookie(
    server: JupyterServer, recorder: Recorder
) -> None:
    cookies, headers = server.log_in()
    headers |= {"Authorization": "Bearer la_" + "0" * 48}
    async with Caller(server, recorder, headers=headers, cookies=cookies) as caller:
        expect(await caller.get("/loops"), 401, "invalid_token")


async def test_a_program_needs_no_xsrf_token_and_gets_no_cookie(api: Caller) -> None:
    created = await api.create(title="no cookies")
    for answer in (
        await api.get("/loops"),
        await api.get(f"/loops/{created['id']}"),
        await api.post(f"/loops/{created['id']}/interrupt"),
        await api.get("/nothing"),
    ):
        assert "Set-Cookie" not in answer.headers, answer.url


async def test_a_program_may_call_from_any_origin_header(api: Caller) -> None:
    answer = await api.post("/loops", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 201, answer.text
    await api.delete(f"/loops/{answer.json()['id']}")


async def test_a_cookie_request_without_the_xsrf_token_is_refused(
    server: JupyterServer, recorder: Recorder, browser: Caller
) -> None:
    loop_id = await browser.loop()
    cookies, _ = server.log_in()
    async with Caller(server, recorder, cookies=cookies) as caller:
        for method, path in (
            ("POST", "/loops"),
            ("DELETE", f"/loops/{loop_id}"),
            ("POST", f"/loops/{loop_id}/messages"),
            ("POST", "/me/tokens"),
        ):
            answer = await caller.request(method, path, json={"content": "x"})
            expect(answer, 403, "xsrf_failed")
    assert (await browser.state(loop_id))["archived"] is False


async def test_a_cookie_request_with_a_wrong_xsrf_token_is_refused(
    server: JupyterServer, recorder: Recorder
) -> None:
    cookies, _ = server.log_in()
    wrong = {"X-XSRFToken": "2|aaaaaaaa|bbbbbbbb|1"}
    async with Caller(server, recorder, headers=wrong, cookies=cookies) as caller:
        expect(await caller.post("/loops"), 403, "xsrf_failed")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_cookie_request_from_another_origin_is_forbidden(
    browser: Caller, method: str
) -> None:
    answer = await browser.request(method, "/loops", headers={"Origin": "https://evil.example"})
    expect(answer, 403, "forbidden")


async def test_a_cookie_request_from_the_same_origin_is_served(
    browser: Caller, server: JupyterServer
) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    answer = await browser.post("/loops", json={}, headers={"Origin": origin})
    assert answer.status_code == 201, answer.text
    await browser.delete(f"/loops/{answer.json()['id']}")


async def test_a_foreign_host_header_is_forbidden(
    browser: Caller, session: Caller, api: Caller
) -> None:
    for caller in (browser, session, api):
        answer = await caller.get("/loops", headers={"Host": "rebound.example"})
        expect(answer, 403, "forbidden")


async def test_all_credentials_of_a_single_user_server_are_one_owner(
    api: Caller, session: Caller, browser: Caller, server: JupyterServer, recorder: Recorder
) -> None:
    created = await browser.create(title="mine everywhere")
    cookies, headers = server.log_in()
    async with Caller(server, recorder, headers=headers, cookies=cookies) as second_browser:
        for caller in (api, session, second_browser):
            seen = await caller.state(created["id"])
            assert seen["created_by"] == created["created_by"]
            listed = (await caller.get("/loops?limit=1")).json()["data"]
            assert listed[0]["id"] == created["id"]
        made_by_token = await api.create()
        assert made_by_token["created_by"] == created["created_by"]
        assert (await second_browser.delete(f"/loops/{created['id']}")).status_code == 204
