"""The requests that carry files and documents, and how a file is cut into them. No I/O."""

from __future__ import annotations

import uuid
from typing import Any, Literal
from urllib.parse import quote

from ._models import FilePage, FileReceived
from ._requests import ApiRequest, _given, _loop, _nothing

PART = 8 << 20
"""Bytes of one request; the API takes no more."""

TranscriptFormat = Literal["md", "json", "ipynb"]


def _path(name: str) -> str:
    """``name`` in a URL. Raises ``ValueError`` where it would become another one."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is not a path in a loop's workdir")
    return "/".join(quote(part, safe="") for part in parts)


def list_files(loop_id: str, path: str, limit: int, after: str | None) -> ApiRequest[FilePage]:
    params = _given(path=path or None, limit=str(limit), after=after)
    return ApiRequest(
        "GET", _loop(loop_id, "files"), FilePage.parse, params=params, repeatable=True
    )


def read_file(loop_id: str, name: str) -> ApiRequest[bytes]:
    path = _loop(loop_id, "files", _path(name))
    return ApiRequest("GET", path, bytes, headers={"Accept": "*/*"}, repeatable=True, reads="bytes")


def save_file(loop_id: str, name: str) -> ApiRequest[None]:
    path = _loop(loop_id, "files", _path(name))
    return ApiRequest("GET", path, _nothing, headers={"Accept": "*/*"}, repeatable=True)


def write_file(loop_id: str, name: str, data: bytes) -> ApiRequest[FileReceived]:
    return _put(loop_id, name, data, {}, repeatable=True)


def new_upload() -> str:
    return uuid.uuid4().hex


def write_part(
    loop_id: str, name: str, data: bytes, upload: str, offset: int, size: int
) -> ApiRequest[FileReceived]:
    """One part. The last one makes the file appear, and so cannot be sent a second time."""
    params = {"upload": upload, "offset": str(offset), "size": str(size)}
    return _put(loop_id, name, data, params, repeatable=offset + len(data) < size)


def _put(
    loop_id: str, name: str, data: bytes, params: dict[str, str], *, repeatable: bool
) -> ApiRequest[FileReceived]:
    return ApiRequest(
        "PUT",
        _loop(loop_id, "files", _path(name)),
        FileReceived.parse,
        params=params,
        headers={"Content-Type": "application/octet-stream"},
        content=data,
        repeatable=repeatable,
    )


def transcript(
    loop_id: str, wanted: TranscriptFormat, turn: str | None, last: int | None
) -> ApiRequest[Any]:
    reads: Literal["json", "text"] = "text" if wanted == "md" else "json"
    params = _given(format=wanted, turn=turn, last=None if last is None else str(last))
    path = _loop(loop_id, "transcript")
    parse = str if wanted == "md" else dict
    headers = {"Accept": "*/*"}
    return ApiRequest(
        "GET", path, parse, params=params, headers=headers, repeatable=True, reads=reads
    )


def save_transcript(
    loop_id: str, wanted: TranscriptFormat, turn: str | None, last: int | None
) -> ApiRequest[None]:
    params = _given(format=wanted, turn=turn, last=None if last is None else str(last))
    headers = {"Accept": "*/*"}
    path = _loop(loop_id, "transcript")
    return ApiRequest("GET", path, _nothing, params=params, headers=headers, repeatable=True)
