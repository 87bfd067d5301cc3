"""One caller of the API: raw httpx, with every error answer and every stream checked.

Not the project's client on purpose: these tests are to find what *any* HTTP client would.
The :class:`Recorder` holds everything a test saw of its loops; when the test ends it archives
them and holds all captured streams against the stored log and the conversation.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from . import invariants
from .described import check_described
from .sse import WAIT, Event, EventStream

ERRORS: dict[int, dict[str, set[str]]] = {
    400: {
        "invalid_request_error": {
            "invalid_json", "invalid_parameter", "invalid_cursor", "title_too_long",
            "metadata_too_large", "unknown_profile", "unknown_vault", "unknown_repo",
            "missing_content", "content_too_large", "idempotency_key_too_long",
            "loop_archived", "invalid_choice_payload",
        }
    },
    401: {"authentication_error": {"missing_credentials", "invalid_token"}},
    403: {"permission_error": {"not_loop_owner", "xsrf_failed", "forbidden"}},
    404: {
        "not_found_error": {"loop_not_found", "choice_not_found", "token_not_found", "not_found"}
    },
    405: {"invalid_request_error": {"method_not_allowed"}},
    409: {"conflict_error": {"idempotency_key_reused"}},
    413: {"invalid_request_error": {"body_too_large"}},
    429: {"rate_limit_error": {"too_many_requests"}},
    500: {"internal_error": {"internal", "sandbox_spawn_failed"}},
    503: {"internal_error": {"overloaded"}},
}  # fmt: skip


LEAK = re.compile(r"Traceback|/tmp/|/home/|/ro{2}t/|site-packages|la_[0-9a-f]{8}|File \"")


def check_error(answer: httpx.Response) -> None:
    """Any answer >= 400: the contract's envelope, with a type and code of its table."""
    assert answer.headers["Content-Type"].startswith("application/json"), answer.headers
    if answer.request.method == "HEAD":
        return
    body = answer.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"type", "code", "message"}, body
    table = ERRORS.get(answer.status_code)
    assert table is not None, f"{answer.status_code} is no status of the contract: {body}"
    assert body["error"]["type"] in table, (answer.status_code, body)
    assert body["error"]["code"] in table[body["error"]["type"]], (answer.status_code, body)
    message = body["error"]["message"]
    assert isinstance(message, str)
    assert message.strip(), body
    leak = LEAK.search(message)
    assert leak is None, f"{leak!r} in {message!r}"
    if answer.status_code in {429, 503}:
        assert int(answer.headers["Retry-After"]) >= 0


def expect(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this error (its envelope was checked when it came)."""
    check_error(answer)
    got = (answer.status_code, answer.json()["error"]["code"])
    assert got == (status, code), f"{answer.request.method} {answer.request.url}: {answer.text}"
    error: dict[str, Any] = answer.json()["error"]
    return error


@dataclass
class Recorder:
    """What one test saw: the loops it made, and every stream it captured."""

    streams: list[EventStream] = field(default_factory=list)
    loops: dict[str, Caller] = field(default_factory=dict)

    async def settle(self) -> None:
        """Archive the test's loops, then check every stream against what was stored."""
        for loop_id, caller in self.loops.items():
            async with caller.again() as reader:
                assert (await reader.delete(f"/loops/{loop_id}")).status_code == 204
                turns = (await reader.get(f"/loops/{loop_id}")).json()["turn_count"]
                log = await reader.log(loop_id, turns=turns)
                rows = await reader.history(loop_id)
            invariants.check_log(log)
            invariants.check_history(rows, log)
            users = [r for r in rows if r["role"] == "user"]
            assert len(users) == turns, f"{len(users)} user rows for {turns} accepted messages"
            for stream in self.streams:
                if stream.loop_id == loop_id:
                    invariants.check_against_log(stream, log)
        for stream in self.streams:
            invariants.check_stream(stream)
        self.loops.clear()
        self.streams.clear()


class Served(Protocol):
    """Where an API is: a server of the tests, or a person's server behind a Hub."""

    @property
    def api_url(self) -> str: ...


class Caller:
    """An ``httpx.AsyncClient`` under the API's base URL, plus the few calls every test makes."""

    def __init__(
        self,
        server: Served,
        recorder: Recorder,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        settle_with: Mapping[str, str] | None = None,
    ) -> None:
        self.server = server
        self.recorder = recorder
        self._headers = dict(headers or {})
        self._cookies = dict(cookies or {})
        self._settle_with = dict(settle_with) if settle_with is not None else None
        self.http = httpx.AsyncClient(
            headers=self._headers,
            cookies=self._cookies,
            timeout=httpx.Timeout(WAIT),
            limits=httpx.Limits(max_keepalive_connections=5),
            event_hooks={"response": [_check_answer]},
        )

    def again(self) -> Caller:
        """A caller that may still read this one's loops when the test has ended."""
        if self._settle_with is not None:
            headers, cookies = self._settle_with, {}
        else:
            headers, cookies = self._headers, self._cookies
        return Caller(self.server, Recorder(), headers=headers, cookies=cookies)

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()

    # ------------------------------------------------------------------ plain requests

    def url(self, path: str) -> str:
        return self.server.api_url + path

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, self.url(path), **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("POST", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("DELETE", path, **options)

    # ------------------------------------------------------------------ loops and turns

    async def create(self, **body: Any) -> dict[str, Any]:
        """A new loop; the whole Loop object."""
        answer = await self.post("/loops", json=body)
        assert answer.status_code == 201, answer.text
        loop: dict[str, Any] = answer.json()
        self.recorder.loops[loop["id"]] = self
        return loop

    async def loop(self, **body: Any) -> str:
        """A new loop; its id."""
        created = await self.create(**body)
        return str(created["id"])

    async def state(self, loop_id: str) -> dict[str, Any]:
        answer = await self.get(f"/loops/{loop_id}")
        assert answer.status_code == 200, answer.text
        loop: dict[str, Any] = answer.json()
        return loop

    @contextlib.asynccontextmanager
    async def send(
        self,
        loop_id: str,
        content: str,
        *,
        mode: str | None = None,
        key: str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[EventStream]:
        """Post a message; its stream."""
        body: dict[str, Any] = {"content": content}
        if mode is not None:
            body["permission_mode"] = mode
        headers = {"Accept": "text/event-stream"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with self.http.stream(
            "POST",
            self.url(f"/loops/{loop_id}/messages"),
            json=body,
            headers=headers,
            params=params,
        ) as answer:
            _check_stream_head(answer)
            stream = EventStream(answer, kind="post", loop_id=loop_id)
            self.recorder.streams.append(stream)
            yield stream

    @contextlib.asynccontextmanager
    async def watch(
        self,
        loop_id: str,
        *,
        after_seq: int | None = None,
        last_event_id: int | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[EventStream]:
        """Watch a loop's events, from a cursor where one is given."""
        query = dict(params or {})
        headers = {"Accept": "text/event-stream"}
        if after_seq is not None:
            query["after_seq"] = str(after_seq)
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        async with self.http.stream(
            "GET", self.url(f"/loops/{loop_id}/events"), headers=headers, params=query
        ) as answer:
            _check_stream_head(answer)
            cursor = last_event_id if last_event_id is not None else after_seq
            stream = EventStream(answer, kind="events", loop_id=loop_id, after_seq=cursor)
            self.recorder.streams.append(stream)
            yield stream

    async def turn(self, loop_id: str, content: str, **options: Any) -> list[Event]:
        """Send a message and read its stream to the end."""
        async with self.send(loop_id, content, **options) as stream:
            return await stream.rest()

    async def log(self, loop_id: str, *, turns: int | None = None) -> list[Event]:
        """The stored events; up to the ``turns``-th terminal event (default: of all turns)."""
        if turns is None:
            turns = (await self.state(loop_id))["turn_count"]
        log: list[Event] = []
        if turns == 0:
            return log
        async with self.watch(loop_id, after_seq=0) as stream:
            while sum(e.terminal for e in log) < turns:
                log.append(await stream.event())
        return log

    async def history(self, loop_id: str) -> list[dict[str, Any]]:
        """All rows of the conversation, page by page."""
        rows: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 100}
        while True:
            answer = await self.get(f"/loops/{loop_id}/messages", params=params)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            rows.extend(page["data"])
            assert page["last_id"] == (page["data"][-1]["id"] if page["data"] else None)
            if not page["has_more"]:
                return rows
            params["after"] = page["last_id"]

    async def choose(self, loop_id: str, choice_id: str, **body: Any) -> httpx.Response:
        return await self.post(f"/loops/{loop_id}/choices/{choice_id}", json=body)

    async def interrupt(self, loop_id: str) -> None:
        answer = await self.post(f"/loops/{loop_id}/interrupt")
        assert answer.status_code == 202, answer.text


async def _check_answer(answer: httpx.Response) -> None:
    if answer.status_code >= 400:
        await answer.aread()
        check_error(answer)
    check_described(answer)


def _check_stream_head(answer: httpx.Response) -> None:
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    assert answer.headers["Content-Type"].split(";")[0] == "text/event-stream", answer.headers
    caching = {d.strip() for d in answer.headers["Cache-Control"].split(",")}
    assert {"no-cache", "no-transform"} <= caching, answer.headers
    assert answer.headers["X-Accel-Buffering"] == "no", answer.headers
    assert "Content-Encoding" not in answer.headers, answer.headers
