"""The objects of the Loop API, as frozen dataclasses.

``parse`` makes one from decoded JSON. Unknown fields are ignored, since the server may be newer. A
required field that is missing raises ``KeyError``, which ``_http`` turns into an
:class:`~loopat_jupyter.client.UnexpectedResponse`. Events are in ``_events``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

__all__ = [
    "ApiToken",
    "CurrentTurn",
    "FileInfo",
    "FilePage",
    "FileReceived",
    "FileType",
    "Folder",
    "HistoryToolCall",
    "Isolation",
    "LoopInfo",
    "LoopPage",
    "Message",
    "MessagePage",
    "PermissionMode",
    "Rule",
    "Usage",
]

PermissionMode = Literal["default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto"]
JsonObject = Mapping[str, Any]


def _optional_time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _required_time(value: str) -> datetime:
    return datetime.fromisoformat(value)


@dataclass(frozen=True, slots=True)
class Usage:
    """The token counts of a turn, summed; ``cost_usd`` where the server knows it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None

    @classmethod
    def parse(cls, data: JsonObject) -> Usage:
        counts = {name: int(data.get(name) or 0) for name in _COUNTS}
        return cls(**counts, cost_usd=data.get("cost_usd"))


_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder below the Jupyter server's root that is mounted into the loop's workdir."""

    path: str
    write: bool = False

    @classmethod
    def parse(cls, data: JsonObject) -> Folder:
        return cls(data["path"], bool(data.get("write", False)))


@dataclass(frozen=True, slots=True)
class CurrentTurn:
    """The current turn of a busy loop. ``started_at`` is ``None`` while it has not begun."""

    turn_id: str
    started_at: datetime | None
    pending_choice_id: str | None

    @classmethod
    def parse(cls, data: JsonObject) -> CurrentTurn:
        return cls(
            data["turn_id"], _optional_time(data.get("started_at")), data.get("pending_choice_id")
        )


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a loop's sandbox enforces and what it does not, as phrases to display."""

    isolates: bool
    enforced: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: JsonObject) -> Isolation:
        enforced, gaps = data.get("enforced") or (), data.get("gaps") or ()
        return cls(bool(data["isolates"]), tuple(enforced), tuple(gaps))


@dataclass(frozen=True, slots=True)
class LoopInfo:
    """A loop as the server described it at one moment.

    ``isolation``, ``busy``, ``queue_depth``, ``turn_count`` and ``current_turn`` are known only
    when the loop was requested by its id; in a list they are ``None``.
    """

    id: str
    title: str
    created_at: datetime
    created_by: str
    archived: bool
    archived_at: datetime | None
    metadata: Mapping[str, str]
    profiles: tuple[str, ...]
    vault: str
    repo: str | None
    engine: str | None = None
    sandbox: str | None = None
    durable_choices: bool = True
    folders: tuple[Folder, ...] = ()
    busy: bool | None = None
    queue_depth: int | None = None
    turn_count: int | None = None
    current_turn: CurrentTurn | None = None
    isolation: Isolation | None = None

    @classmethod
    def parse(cls, data: JsonObject) -> LoopInfo:
        current, isolation = data.get("current_turn"), data.get("isolation")
        return cls(
            id=data["id"],
            title=data["title"],
            created_at=_required_time(data["created_at"]),
            created_by=data["created_by"],
            archived=data["archived"],
            archived_at=_optional_time(data.get("archived_at")),
            metadata=dict(data["metadata"]),
            profiles=tuple(data["profiles"]),
            vault=data["vault"],
            repo=data.get("repo"),
            engine=data.get("engine"),
            sandbox=data.get("sandbox"),
            durable_choices=data.get("durable_choices", True),
            folders=tuple(Folder.parse(item) for item in data.get("folders") or ()),
            busy=data.get("busy"),
            queue_depth=data.get("queue_depth"),
            turn_count=data.get("turn_count"),
            current_turn=None if current is None else CurrentTurn.parse(current),
            isolation=None if isolation is None else Isolation.parse(isolation),
        )


@dataclass(frozen=True, slots=True)
class LoopPage:
    """One page of a listing, newest created first."""

    data: tuple[LoopInfo, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def parse(cls, data: JsonObject) -> LoopPage:
        loops = tuple(LoopInfo.parse(item) for item in data["data"])
        return cls(loops, data.get("first_id"), data.get("last_id"), data["has_more"])


@dataclass(frozen=True, slots=True)
class HistoryToolCall:
    """One tool call of a past turn. ``ok`` is ``None`` while it has no result."""

    tool_use_id: str
    tool: str
    input: Any
    ok: bool | None
    result: str | None

    @classmethod
    def parse(cls, data: JsonObject) -> HistoryToolCall:
        return cls(
            data["tool_use_id"],
            data["tool"],
            data.get("input"),
            data.get("ok"),
            data.get("result"),
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the conversation: a user's message, or all visible text of a turn.

    ``seq`` is the number of the turn's ``started`` event, in pages requested newest first.
    """

    id: str
    turn_id: str
    role: Literal["user", "assistant"]
    content: str
    created_at: datetime
    status: str
    tool_calls: tuple[HistoryToolCall, ...] = ()
    usage: Usage | None = None
    seq: int | None = None

    @classmethod
    def parse(cls, data: JsonObject) -> Message:
        usage = data.get("usage")
        return cls(
            id=data["id"],
            turn_id=data["turn_id"],
            role=data["role"],
            content=data["content"],
            created_at=_required_time(data["created_at"]),
            status=data["status"],
            tool_calls=tuple(HistoryToolCall.parse(item) for item in data.get("tool_calls") or ()),
            usage=None if usage is None else Usage.parse(usage),
            seq=data.get("seq"),
        )


@dataclass(frozen=True, slots=True)
class MessagePage:
    """One page of the conversation, oldest first unless requested otherwise."""

    data: tuple[Message, ...]
    has_more: bool
    last_id: str | None

    @classmethod
    def parse(cls, data: JsonObject) -> MessagePage:
        messages = tuple(Message.parse(item) for item in data["data"])
        return cls(messages, data["has_more"], data.get("last_id"))


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """One network request of a loop's sandbox. Byte counts are of the payload."""

    id: str
    started_at: datetime
    kind: Literal["connect", "http", "model"]
    host: str
    port: int
    verdict: Literal["allowed", "refused", "failed"]
    reason: str
    bytes_out: int
    bytes_in: int

    @classmethod
    def parse(cls, data: JsonObject) -> NetworkRequest:
        return cls(
            id=data["id"],
            started_at=_required_time(data["started_at"]),
            kind=data["kind"],
            host=data["host"],
            port=data["port"],
            verdict=data["verdict"],
            reason=data["reason"],
            bytes_out=data["bytes_out"],
            bytes_in=data["bytes_in"],
        )


@dataclass(frozen=True, slots=True)
class NetworkPage:
    """One page of a loop's network audit, newest first."""

    data: tuple[NetworkRequest, ...]
    has_more: bool
    last_id: str | None

    @classmethod
    def parse(cls, data: JsonObject) -> NetworkPage:
        requests = tuple(NetworkRequest.parse(item) for item in data["data"])
        return cls(requests, data["has_more"], data.get("last_id"))


FileType = Literal["file", "directory", "folder", "symlink", "other"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One entry of a directory in a loop's workdir. ``size`` in bytes, for a ``file`` only.

    ``path`` is ``None`` where the name is not UTF-8: the API cannot name it. A ``folder`` is one
    of the Jupyter server's folders that the loop was created with; its files are in that folder.
    """

    name: str
    path: str | None
    type: FileType
    size: int | None
    modified: datetime | None

    @classmethod
    def parse(cls, data: JsonObject) -> FileInfo:
        modified = _optional_time(data["modified"])
        return cls(data["name"], data["path"], data["type"], data["size"], modified)


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of a directory, in the order of its names."""

    data: tuple[FileInfo, ...]
    has_more: bool
    last_id: str | None
    truncated: bool

    @classmethod
    def parse(cls, data: JsonObject) -> FilePage:
        files = tuple(FileInfo.parse(item) for item in data["data"])
        return cls(files, data["has_more"], data["last_id"], data["truncated"])


@dataclass(frozen=True, slots=True)
class FileReceived:
    """The upload of a file after one part: bytes received, and ``file`` once it is complete."""

    received: int
    file: FileInfo | None

    @classmethod
    def parse(cls, data: JsonObject) -> FileReceived:
        file = data["file"]
        return cls(data["received"], None if file is None else FileInfo.parse(file))


@dataclass(frozen=True, slots=True)
class Rule:
    """A remembered permission: ``tool`` (for Bash: commands with ``prefix``) runs unasked."""

    rule_id: str
    tool: str
    prefix: str | None = None
    created_at: datetime | None = None

    @classmethod
    def parse(cls, data: JsonObject) -> Rule:
        created = _optional_time(data.get("created_at"))
        return cls(data["rule_id"], data["tool"], data.get("prefix"), created)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token. ``token`` is the secret, present only in the response that created it."""

    token_id: str
    label: str
    created_at: datetime
    last_used_at: datetime | None = None
    token: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, data: JsonObject) -> ApiToken:
        return cls(
            data["tokenId"],
            data["label"],
            _required_time(data["createdAt"]),
            _optional_time(data.get("lastUsedAt")),
            data.get("token"),
        )
