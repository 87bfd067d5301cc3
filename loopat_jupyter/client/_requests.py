"""Every request of the Loop API as a value, and the meaning of its answer. No I/O.

A :class:`ApiRequest` says what to send and how to read a success; the two clients only carry it.
``repeatable`` is the judgement that the retry policy needs: may the call be sent again when it
is not known whether the server got it? Reading and archiving may; a message may because of its
idempotency key; creating, answering and interrupting may not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from ._models import (
    ApiToken,
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
"""Streams ask for exactly this: some proxies buffer anything that is asked for in other words."""


@dataclass(frozen=True, slots=True)
class ApiRequest(Generic[T]):
    """One request, its path relative to the API's base."""

    method: str
    path: str
    parse: Callable[[Any], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    content: bytes | None = None
    """A body that is no JSON."""
    reads: Literal["json", "text", "bytes"] = "json"
    """What ``parse`` gets."""


def _nothing(data: Any) -> None:
    return None


def _segment(ident: str) -> str:
    """``ident`` as one path segment. An id that would change the path is no id."""
    if not ident or ident in {".", ".."}:
        raise ValueError(f"{ident!r} is not an id")
    return quote(ident, safe="")


def _loop(loop_id: str, *rest: str) -> str:
    return "/".join(("loops", _segment(loop_id), *rest))


def _given(**values: Any) -> dict[str, Any]:
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
    body = _given(
        title=title, metadata=metadata, profiles=profiles, vault=vault, repo=repo, folders=shown
    )
    return ApiRequest("POST", "loops", LoopInfo.parse, body=body)


def list_loops(
    limit: int | None, after: str | None, before: str | None, archived: bool
) -> ApiRequest[LoopPage]:
    params = {k: str(v) for k, v in _given(limit=limit, after=after, before=before).items()}
    if archived:
        params["archived"] = "true"
    return ApiRequest("GET", "loops", LoopPage.parse, params=params, repeatable=True)


def get_loop(loop_id: str) -> ApiRequest[LoopInfo]:
    return ApiRequest("GET", _loop(loop_id), LoopInfo.parse, repeatable=True)


def archive_loop(loop_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", _loop(loop_id), _nothing, repeatable=True)


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
        _loop(loop_id, "messages"),
        _nothing,
        params={"include": "sdk_message"} if sdk_messages else {},
        body=_given(content=content, permission_mode=permission_mode),
        headers={"Accept": EVENT_STREAM, "Idempotency-Key": idempotency_key},
        repeatable=True,
    )


def watch(loop_id: str, cursor: int | None, sdk_messages: bool) -> ApiRequest[None]:
    headers = {"Accept": EVENT_STREAM}
    if cursor is not None:
        headers["Last-Event-ID"] = str(cursor)
    params = {"include": "sdk_message"} if sdk_messages else {}
    path = _loop(loop_id, "events")
    return ApiRequest("GET", path, _nothing, params=params, headers=headers, repeatable=True)


def history(
    loop_id: str, limit: int | None, after: str | None, newest_first: bool = False
) -> ApiRequest[MessagePage]:
    params = {k: str(v) for k, v in _given(limit=limit, after=after).items()}
    if newest_first:
        params["order"] = "desc"
    path = _loop(loop_id, "messages")
    return ApiRequest("GET", path, MessagePage.parse, params=params, repeatable=True)


def network(loop_id: str, limit: int | None, after: str | None) -> ApiRequest[NetworkPage]:
    params = {k: str(v) for k, v in _given(limit=limit, after=after).items()}
    return ApiRequest(
        "GET", _loop(loop_id, "network"), NetworkPage.parse, params=params, repeatable=True
    )


def interrupt(loop_id: str) -> ApiRequest[None]:
    return ApiRequest("POST", _loop(loop_id, "interrupt"), _nothing)


# ------------------------------------------------------------------- choices and rules


def resolve_choice(loop_id: str, choice_id: str, body: Mapping[str, Any]) -> ApiRequest[None]:
    return ApiRequest("POST", _loop(loop_id, "choices", _segment(choice_id)), _nothing, body=body)


def list_rules(loop_id: str) -> ApiRequest[list[Rule]]:
    def parse(data: Any) -> list[Rule]:
        return [Rule.parse(item) for item in data["rules"]]

    return ApiRequest("GET", _loop(loop_id, "rules"), parse, repeatable=True)


def withdraw_rule(loop_id: str, rule_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", _loop(loop_id, "rules", _segment(rule_id)), _nothing)


# ------------------------------------------------------------------- tokens


def create_token(label: str | None) -> ApiRequest[ApiToken]:
    return ApiRequest("POST", "me/tokens", ApiToken.parse, body=_given(label=label))


def list_tokens() -> ApiRequest[list[ApiToken]]:
    def parse(data: Any) -> list[ApiToken]:
        return [ApiToken.parse(item) for item in data["tokens"]]

    return ApiRequest("GET", "me/tokens", parse, repeatable=True)


def revoke_token(token_id: str) -> ApiRequest[None]:
    return ApiRequest("DELETE", f"me/tokens/{_segment(token_id)}", _nothing)
