"""Every request of the Loop API as a value, with the parser of its response. No I/O.

The transports send an :class:`ApiRequest`. The retry policy reads its ``repeatable``: may it be
sent again when it is unknown whether the server received it? Reading and archiving may; a message
may because of its idempotency key; creating, resolving and interrupting may not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from ._models import (
    ApiToken,
    FilePage,
    FileReceived,
    Folder,
    LoopInfo,
    LoopPage,
    MessagePage,
    NetworkPage,
    PermissionMode,
    Rule,
)

T = TypeVar("T")

EVENT_STREAM = "text/event-stream"
"""The ``Accept`` of a stream, exactly this: some proxies buffer any other value."""


UPLOAD_PART_BYTES = 8 << 20
"""Bytes in the body of one upload request, the API's limit."""

TranscriptFormat = Literal["md", "json", "ipynb"]


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[T]):
    """One request. ``path`` is relative to the API's base URL."""

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    content: bytes | None = None
    """A body that is not JSON."""
    decode_as: Literal["json", "text", "bytes"] = "json"
    """How the body is decoded before it is passed to ``parse``."""


def _discard_body(data: Any) -> None:
    return None


def _path_segment(ident: str) -> str:
    """``ident`` as one path segment. Raises ``ValueError`` where it would change the path."""
    if not ident or ident in {".", ".."}:
        raise ValueError(f"{ident!r} is not an id")
    return quote(ident, safe="")


def _loop_path(loop_id: str, *rest: str) -> str:
    return "/".join(("loops", _path_segment(loop_id), *rest))


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


# ------------------------------------------------------------------- loops


def create_loop(
    title: str | None,
    metadata: Mapping[str, str] | None,
    profiles: list[str] | None,
    vault: str | None,
    repo: str | None,
    folders: list[Folder] | None,
) -> ApiRequest[LoopInfo]:
    shown = None if folders is None else [{"path": f.path, "write": f.write} for f in folders]
    body = _without_none(
        title=title, metadata=metadata, profiles=profiles, vault=vault, repo=repo, folders=shown
    )
    return ApiRequest("POST", "loops", LoopInfo.parse, body=body)


def list_loops(
    limit: int | None, after: str | None, before: str | None, archived: bool
) -> ApiRequest[LoopPage]:
    params = {k: str(v) for k, v in _without_none(limit=limit, after=after, before=before).items()}
    if archived:
        params["archived"] = "true"
    return ApiRequest("GET", "loops", LoopPage.parse, params=params, repeatable=True)


def get_loop(loop_id: str) -> ApiRequest[LoopInfo]:
    return ApiRequest("GET", _loop_path(loop_id), LoopInfo.parse, repeatable=True)


def archive_loop(loop_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", _loop_path(loop_id), _discard_body, repeatable=True)


# ------------------------------------------------------------------- conversation


def send_message(
    loop_id: str,
    content: str,
    permission_mode: PermissionMode | None,
    idempotency_key: str,
    sdk_messages: bool,
) -> ApiRequest[None]:
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the message holds lone surrogates, which are no text") from None
    return ApiRequest(
        "POST",
        _loop_path(loop_id, "messages"),
        _discard_body,
        params={"include": "sdk_message"} if sdk_messages else {},
        body=_without_none(content=content, permission_mode=permission_mode),
        headers={"Accept": EVENT_STREAM, "Idempotency-Key": idempotency_key},
        repeatable=True,
    )


def stream_events(loop_id: str, cursor: int | None, sdk_messages: bool) -> ApiRequest[None]:
    headers = {"Accept": EVENT_STREAM}
    if cursor is not None:
        headers["Last-Event-ID"] = str(cursor)
    params = {"include": "sdk_message"} if sdk_messages else {}
    path = _loop_path(loop_id, "events")
    return ApiRequest("GET", path, _discard_body, params=params, headers=headers, repeatable=True)


def list_messages(
    loop_id: str, limit: int | None, after: str | None, newest_first: bool = False
) -> ApiRequest[MessagePage]:
    params = {k: str(v) for k, v in _without_none(limit=limit, after=after).items()}
    if newest_first:
        params["order"] = "desc"
    path = _loop_path(loop_id, "messages")
    return ApiRequest("GET", path, MessagePage.parse, params=params, repeatable=True)


def list_network_requests(
    loop_id: str, limit: int | None, after: str | None
) -> ApiRequest[NetworkPage]:
    params = {k: str(v) for k, v in _without_none(limit=limit, after=after).items()}
    return ApiRequest(
        "GET", _loop_path(loop_id, "network"), NetworkPage.parse, params=params, repeatable=True
    )


def interrupt_turn(loop_id: str) -> ApiRequest[None]:
    return ApiRequest("POST", _loop_path(loop_id, "interrupt"), _discard_body)


# ------------------------------------------------------------------- choices and rules


def resolve_choice(loop_id: str, choice_id: str, body: Mapping[str, Any]) -> ApiRequest[None]:
    return ApiRequest(
        "POST", _loop_path(loop_id, "choices", _path_segment(choice_id)), _discard_body, body=body
    )


def list_rules(loop_id: str) -> ApiRequest[list[Rule]]:
    def parse(data: Any) -> list[Rule]:
        return [Rule.parse(item) for item in data["rules"]]

    return ApiRequest("GET", _loop_path(loop_id, "rules"), parse, repeatable=True)


def delete_rule(loop_id: str, rule_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", _loop_path(loop_id, "rules", _path_segment(rule_id)), _discard_body)


# ------------------------------------------------------------------- files and transcripts


def _file_path(name: str) -> str:
    """``name`` as path segments. Raises ``ValueError`` where they would name another file."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is not a path in a loop's workdir")
    return "/".join(quote(part, safe="") for part in parts)


def list_files(loop_id: str, path: str, limit: int, after: str | None) -> ApiRequest[FilePage]:
    params = _without_none(path=path or None, limit=str(limit), after=after)
    return ApiRequest(
        "GET", _loop_path(loop_id, "files"), FilePage.parse, params=params, repeatable=True
    )


def read_file(loop_id: str, name: str) -> ApiRequest[bytes]:
    path = _loop_path(loop_id, "files", _file_path(name))
    return ApiRequest(
        "GET", path, bytes, headers={"Accept": "*/*"}, repeatable=True, decode_as="bytes"
    )


def download_file(loop_id: str, name: str) -> ApiRequest[None]:
    path = _loop_path(loop_id, "files", _file_path(name))
    return ApiRequest("GET", path, _discard_body, headers={"Accept": "*/*"}, repeatable=True)


def write_file(loop_id: str, name: str, data: bytes) -> ApiRequest[FileReceived]:
    return _put_file(loop_id, name, data, {}, repeatable=True)


def new_upload_id() -> str:
    return uuid.uuid4().hex


def write_part(
    loop_id: str, name: str, data: bytes, upload: str, offset: int, size: int
) -> ApiRequest[FileReceived]:
    """One part. The last one makes the file appear, so it must not be sent twice."""
    params = {"upload": upload, "offset": str(offset), "size": str(size)}
    return _put_file(loop_id, name, data, params, repeatable=offset + len(data) < size)


def _put_file(
    loop_id: str, name: str, data: bytes, params: dict[str, str], *, repeatable: bool
) -> ApiRequest[FileReceived]:
    return ApiRequest(
        "PUT",
        _loop_path(loop_id, "files", _file_path(name)),
        FileReceived.parse,
        params=params,
        headers={"Content-Type": "application/octet-stream"},
        content=data,
        repeatable=repeatable,
    )


def get_transcript(
    loop_id: str, wanted: TranscriptFormat, turn: str | None, last: int | None
) -> ApiRequest[Any]:
    reads: Literal["json", "text"] = "text" if wanted == "md" else "json"
    params = _without_none(format=wanted, turn=turn, last=None if last is None else str(last))
    path = _loop_path(loop_id, "transcript")
    parse = str if wanted == "md" else dict
    headers = {"Accept": "*/*"}
    return ApiRequest(
        "GET", path, parse, params=params, headers=headers, repeatable=True, decode_as=reads
    )


def download_transcript(
    loop_id: str, wanted: TranscriptFormat, turn: str | None, last: int | None
) -> ApiRequest[None]:
    params = _without_none(format=wanted, turn=turn, last=None if last is None else str(last))
    headers = {"Accept": "*/*"}
    path = _loop_path(loop_id, "transcript")
    return ApiRequest("GET", path, _discard_body, params=params, headers=headers, repeatable=True)


# ------------------------------------------------------------------- tokens


def create_token(label: str | None) -> ApiRequest[ApiToken]:
    return ApiRequest("POST", "me/tokens", ApiToken.parse, body=_without_none(label=label))


def list_tokens() -> ApiRequest[list[ApiToken]]:
    def parse(data: Any) -> list[ApiToken]:
        return [ApiToken.parse(item) for item in data["tokens"]]

    return ApiRequest("GET", "me/tokens", parse, repeatable=True)


def revoke_token(token_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", f"me/tokens/{_path_segment(token_id)}", _discard_body)
