"""Requests, errors, retries and pages, over the transport seam."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from loopat_jupyter import client as api
from loopat_jupyter.client import Client, RetryPolicy

from .scripted_api import LOOP, LOOP_BODY, ScriptedApi, refusal

URL = "https://hub.example/user/a%40b"
AT_ONCE = RetryPolicy(backoff=0.0)


def serving(handle: Callable[[httpx.Request], httpx.Response], token: str = "la_x") -> Client:
    return Client(URL, token, transport=httpx.MockTransport(handle), retry=AT_ONCE)


def answering(response: httpx.Response) -> Client:
    return serving(lambda request: response)


@pytest.mark.parametrize(
    ("token", "header"), [("la_1", "Bearer la_1"), ("abc", "token abc"), (None, None)]
)
def test_tokens_of_either_kind_go_into_the_authorization_header(token: Any, header: Any):
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=LOOP_BODY)

    loop = serving(handle, token).loops.get(LOOP)
    assert loop.info.title == "a loop"
    assert loop.info.created_at.utcoffset() is not None
    assert seen[0].headers.get("Authorization") == header
    assert "Cookie" not in seen[0].headers
    assert str(seen[0].url) == f"{URL}/loopat/api/v1/loops/{LOOP}"


@pytest.mark.parametrize("ident", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_rejected(ident: str):
    with pytest.raises(ValueError, match="not an id"):
        answering(httpx.Response(204)).loops.archive(ident)


def test_odd_ids_stay_one_segment():
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return refusal(404, "not_found_error", "loop_not_found", "no such loop")

    with pytest.raises(api.NotFoundError):
        serving(handle).loops.get("../me/tokens?x#y")
    assert seen[0].url.raw_path.endswith(b"/loops/..%2Fme%2Ftokens%3Fx%23y")


@pytest.mark.parametrize(
    ("status", "kind", "cls"),
    [
        (400, "invalid_request_error", api.InvalidRequestError),
        (401, "authentication_error", api.AuthenticationError),
        (403, "permission_error", api.PermissionDeniedError),
        (404, "not_found_error", api.NotFoundError),
        (409, "conflict_error", api.ConflictError),
        (413, "invalid_request_error", api.InvalidRequestError),
        (429, "rate_limit_error", api.RateLimitError),
        (500, "internal_error", api.InternalError),
        (418, "teapot_error", api.APIError),
    ],
)
def test_each_error_type_has_its_class(status: int, kind: str, cls: type[api.APIError]):
    with pytest.raises(cls) as error:
        answering(refusal(status, kind, "a_code", "a sentence")).loops.get(LOOP)
    assert type(error.value) is cls
    assert (error.value.code, error.value.message, error.value.status) == (
        "a_code",
        "a sentence",
        status,
    )


@pytest.mark.parametrize(
    ("response", "cls"),
    [
        (httpx.Response(404, text="<html>"), api.UnexpectedResponse),
        (httpx.Response(302, headers={"Location": "/hub/login"}), api.UnexpectedResponse),
        (httpx.Response(200, text="<html>log in"), api.UnexpectedResponse),
        (httpx.Response(200, json={"message": "other"}), api.UnexpectedResponse),
        (httpx.Response(200, json=[1]), api.UnexpectedResponse),
        (httpx.Response(403, json={"status": 403}), api.PermissionDeniedError),
        (httpx.Response(502, text="bad gateway"), api.InternalError),
    ],
)
def test_a_response_that_is_not_of_the_api_has_its_own_error(
    response: httpx.Response, cls: type[Exception]
):
    with pytest.raises(cls) as error:
        answering(response).loops.get(LOOP)
    assert "\n" not in str(error.value)


def test_a_stream_that_is_a_login_page_is_an_error_at_once():
    scripted = ScriptedApi()
    page = httpx.Response(200, html="<form>")
    scripted.special["POST", f"loops/{LOOP}/messages"] = [page]
    with Client(URL, transport=scripted.transport) as client, pytest.raises(api.UnexpectedResponse):
        client.loops.get(LOOP).send("hi")
    assert len(scripted.streams()) == 1


def counted(answers: list[httpx.Response | Exception]) -> tuple[Client, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = answers[len(seen) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return serving(handle), seen


def test_reading_is_retried_and_creating_is_not_when_the_response_was_lost():
    lost = httpx.ReadError("reset")
    client, seen = counted([lost, lost, httpx.Response(200, json=LOOP_BODY)])
    client.loops.get(LOOP)
    assert len(seen) == 3
    client, seen = counted([lost, httpx.Response(201, json=LOOP_BODY)])
    with pytest.raises(api.ConnectionFailed):
        client.loops.create("x")
    assert len(seen) == 1


def test_requests_that_were_not_carried_out_are_retried():
    busy = refusal(429, "rate_limit_error", "too_many_requests", "slow", {"Retry-After": "0"})
    refused = httpx.ConnectError("refused")
    client, seen = counted([refused, busy, httpx.Response(201, json=LOOP_BODY)])
    client.loops.create("x")
    assert len(seen) == 3


def test_a_long_retry_after_is_raised_not_waited_for():
    late = refusal(429, "rate_limit_error", "too_many_requests", "slow", {"Retry-After": "3600"})
    client, seen = counted([late])
    with pytest.raises(api.RateLimitError) as error:
        client.loops.get(LOOP)
    assert error.value.retry_after == 3600
    assert len(seen) == 1


def test_backoff_doubles_with_jitter_up_to_its_ceiling():
    policy = RetryPolicy(backoff=1.0, longest=8.0)
    for failures, ceiling in ((1, 1.0), (2, 2.0), (4, 8.0), (50, 8.0)):
        assert ceiling / 2 <= policy.delay(failures) <= ceiling
    assert policy.delay(1, retry_after=30.0) == 30.0


def test_listing_walks_all_pages():
    ids = [f"loop_{n}" for n in range(7)]

    def handle(request: httpx.Request) -> httpx.Response:
        after, limit = request.url.params.get("after"), int(request.url.params["limit"])
        start = ids.index(after) + 1 if after else 0
        page = ids[start : start + limit]
        more = start + limit < len(ids)
        body = {"data": [{**LOOP_BODY, "id": i} for i in page], "has_more": more}
        return httpx.Response(200, json={**body, "first_id": page[0], "last_id": page[-1]})

    client = serving(handle)
    assert [loop.id for loop in client.loops.list(page_size=3)] == ids
    assert client.loops.page(limit=2).has_more


def test_history_walks_all_pages():
    rows = [
        {
            "id": f"msg_{n}",
            "turn_id": "turn_1",
            "role": "assistant",
            "content": "x",
            "created_at": "2026-11-23T20:00:00.5Z",
            "status": "done",
            "tool_calls": [{"tool_use_id": "t", "tool": "Bash", "input": {}, "ok": None}],
            "usage": {"input_tokens": 1},
        }
        for n in range(3)
    ]

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(LOOP):
            return httpx.Response(200, json=LOOP_BODY)
        start = int(request.url.params.get("after", "msg_-1").removeprefix("msg_")) + 1
        body = {"data": rows[start : start + 2], "has_more": start + 2 < len(rows)}
        return httpx.Response(200, json={**body, "last_id": body["data"][-1]["id"]})

    messages = list(serving(handle).loops.get(LOOP).history(page_size=2))
    assert [m.id for m in messages] == ["msg_0", "msg_1", "msg_2"]
    assert messages[0].tool_calls[0].ok is None


def network_pages(request: httpx.Request) -> httpx.Response:
    """Three requests, in pages of two."""
    if request.url.path.endswith(LOOP):
        return httpx.Response(200, json=LOOP_BODY)
    assert request.url.path.endswith(f"/loops/{LOOP}/network")
    rows = [
        {
            "id": f"net_{n}",
            "started_at": "2026-11-23T20:00:00.5Z",
            "kind": "connect",
            "host": "example.org",
            "port": 443,
            "verdict": "refused",
            "reason": "It is on no list.",
            "bytes_out": n,
            "bytes_in": 0,
        }
        for n in (3, 2, 1)
    ]
    start = {None: 0, "net_2": 2}[request.url.params.get("after")]
    page = rows[start : start + 2]
    more = start + 2 < len(rows)
    return httpx.Response(200, json={"data": page, "has_more": more, "last_id": page[-1]["id"]})


def test_the_network_audit_walks_all_pages():
    requests = list(serving(network_pages).loops.get(LOOP).network(page_size=2))
    assert [one.bytes_out for one in requests] == [3, 2, 1]
    assert (requests[0].host, requests[0].port, requests[0].verdict) == (
        "example.org",
        443,
        "refused",
    )
    assert requests[0].started_at.tzinfo is not None


async def test_the_network_audit_walks_all_pages_asynchronously():
    transport = httpx.MockTransport(network_pages)
    async with api.AsyncClient(URL, transport=transport) as client:
        loop = await client.loops.get(LOOP)
        assert [one.id async for one in loop.network(page_size=2)] == ["net_3", "net_2", "net_1"]


def test_create_sends_only_what_was_given():
    bodies: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(201, json=LOOP_BODY)

    client = serving(handle)
    client.loops.create()
    client.loops.create("t", metadata={"a": "b"}, folders=[api.Folder("data", write=True)])
    assert bodies == [
        {},
        {"title": "t", "metadata": {"a": "b"}, "folders": [{"path": "data", "write": True}]},
    ]


def test_a_token_shows_its_secret_once_and_never_in_its_repr():
    body = {
        "tokenId": "tok_1",
        "token": "la_secret",
        "label": "x",
        "createdAt": "2026-11-23T20:00:00Z",
    }
    token = answering(httpx.Response(201, json=body)).tokens.create("x")
    assert token.token == "la_secret"
    assert "la_secret" not in repr(token)
    assert "la_secret" not in repr(Client(URL, "la_secret"))
    assert "la_secret" not in repr(Client(URL, "la_secret").address)


def test_an_invalid_url_is_rejected():
    for url in ("", "server", "ftp://x/", "http://"):
        with pytest.raises(ValueError, match="address"):
            Client(url)


def test_a_message_with_lone_surrogates_is_rejected():
    with pytest.raises(ValueError, match="lone surrogates"):
        answering(httpx.Response(200, json=LOOP_BODY)).loops.get(LOOP).send("\ud800")


def test_ipython_shows_an_error_without_local_paths() -> None:
    """IPython's own hook: a traceback would put this machine's paths into the notebook."""
    error = api.NotFoundError("There is no such loop.", status=404, code="loop_not_found")
    with pytest.raises(api.NotFoundError):
        exec("def find():\n    raise error\nfind()", {"__name__": "__main__", "error": error})
    said = "NotFoundError: There is no such loop."
    assert error._render_traceback_() == [f"{said} (line 2 of the cell)"]
    assert api.LoopatError("Nobody is here.")._render_traceback_() == [
        "LoopatError: Nobody is here."
    ]
