"""A Loop API behind httpx's transport seam: one recorded turn, connections that break on order.

It keeps the contract where a client can tell: a message with a known idempotency key replays,
a cursor on ``/events`` is honoured, events of other turns lie between. ``cuts`` says for each
stream connection in turn after how many bytes it breaks (``None``: never).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

LOOP = "loop_00000000-0000-4000-8000-000000000001"
TURN = "turn_00000000000000000001"
OTHER = "turn_00000000000000000002"

LOOP_BODY: dict[str, Any] = {
    "id": LOOP,
    "title": "a loop",
    "created_at": "2026-11-23T20:00:00Z",
    "created_by": "owner",
    "archived": False,
    "archived_at": None,
    "metadata": {},
    "profiles": [],
    "vault": "default",
    "repo": None,
    "engine": "builtin",
    "sandbox": "bubblewrap",
    "durable_choices": True,
    "folders": [],
    "busy": False,
    "queue_depth": 0,
    "turn_count": 1,
    "current_turn": None,
    "a_field_of_the_future": {"x": 1},
}

PERMISSION = {
    "choice_id": "choice_1",
    "kind": "permission",
    "payload": {
        "tool": "Bash",
        "title": "Run a command",
        "display_name": "Bash",
        "input": {"command": "ls"},
        "command": "ls",
    },
}
QUESTION = {
    "choice_id": "choice_1",
    "kind": "question",
    "payload": {
        "questions": [
            {"id": "q1", "question": "Which?", "options": [{"label": "A"}], "multi_select": False}
        ]
    },
}

RECORDED: list[tuple[str, dict[str, Any]]] = [
    ("started", {"turn_id": TURN, "cold_start": True, "content": "hi"}),
    ("thinking_delta", {"turn_id": TURN, "text": "hm"}),
    ("assistant_delta", {"turn_id": TURN, "text": "Grüße, \u2028 "}),
    ("tool_call", {"turn_id": TURN, "tool_use_id": "t1", "tool": "Bash", "input_summary": "ls"}),
    ("requires_choice", {"turn_id": TURN, **PERMISSION}),
    (
        "choice_resolved",
        {"turn_id": TURN, "choice_id": "choice_1", "source": "api", "outcome": "allowed"},
    ),
    ("tool_result", {"turn_id": TURN, "tool_use_id": "t1", "ok": True}),
    ("interrupted", {"turn_id": OTHER}),  # a queued turn, cancelled meanwhile
    ("event_of_the_future", {"turn_id": TURN, "x": 1}),
    ("assistant_delta", {"turn_id": TURN, "text": "done."}),
    ("done", {"turn_id": TURN, "usage": {"input_tokens": 3, "output_tokens": 5}}),
    ("started", {"turn_id": OTHER, "cold_start": False, "content": "next"}),
]
OWN = [seq for seq, (_, data) in enumerate(RECORDED, 1) if data["turn_id"] == TURN]
"""Sequence numbers of the recorded turn."""


def frame(name: str, data: dict[str, Any], seq: int | None = None) -> bytes:
    head = f"id: {seq}\n" if seq is not None else ""
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"{head}event: {name}\ndata: {body}\n\n".encode()


class BrokenStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Bytes, then the end (``error`` ``None``) or a failure of the connection."""

    def __init__(self, chunks: list[bytes], error: Exception | None) -> None:
        self._chunks = chunks
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


class ScriptedApi:
    """Use ``transport`` for either client."""

    def __init__(
        self,
        cuts: list[int | None] | None = None,
        *,
        error: Exception | None = None,
        recorded: list[tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.cuts = list(cuts or [])
        self.error = error or httpx.RemoteProtocolError("peer closed connection")
        self.recorded = RECORDED if recorded is None else recorded
        self.requests: list[httpx.Request] = []
        self.keys: list[str] = []
        self.answers: list[Any] = []
        self.pending: str | None = None
        self.special: dict[tuple[str, str], list[httpx.Response | Exception]] = {}
        """Answers to give first, by method and path below the API's base."""

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def streams(self) -> list[httpx.Request]:
        return [r for r in self.requests if r.headers["Accept"] == "text/event-stream"]

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.split("/loopat/api/v1/")[1]
        if special := self.special.get((request.method, path)):
            answer = special.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        match request.method, path.removeprefix(f"loops/{LOOP}"):
            case "POST", "/messages":
                return self._message(request)
            case "GET", "/events":
                return self._events(request)
            case "GET", "":
                current = None
                if self.pending:
                    current = {"turn_id": TURN, "pending_choice_id": self.pending}
                return httpx.Response(200, json={**LOOP_BODY, "current_turn": current})
            case "POST", rest if rest.startswith("/choices/"):
                self.answers.append(json.loads(request.content))
                self.pending = None
                return httpx.Response(202, json={})
        return refusal(404, "not_found_error", "not_found", "no such thing")

    def _message(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["Idempotency-Key"])
        own = [(n, d, s) for s, (n, d) in enumerate(self.recorded, 1) if d["turn_id"] == TURN]
        frames = [frame("queued", {"position": 1}), frame("ping", {})]
        return self._stream(frames + [frame(*event) for event in own], endless=False)

    def _events(self, request: httpx.Request) -> httpx.Response:
        cursor = int(request.headers.get("Last-Event-ID", "0"))
        new = [(n, d, s) for s, (n, d) in enumerate(self.recorded, 1) if s > cursor]
        return self._stream([frame("ping", {}), *(frame(*e) for e in new)], endless=True)

    def _stream(self, frames: list[bytes], endless: bool) -> httpx.Response:
        whole = b"".join(frames)
        cut = self.cuts.pop(0) if self.cuts else None
        error = self.error if cut is not None or endless else None
        shown = whole if cut is None else whole[:cut]
        pieces = [shown[i : i + 7] for i in range(0, len(shown), 7)]
        headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        return httpx.Response(200, headers=headers, stream=BrokenStream(pieces, error))


def refusal(
    status: int, kind: str, code: str, message: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    body = {"error": {"type": kind, "code": code, "message": message}}
    return httpx.Response(status, json=body, headers=headers)
