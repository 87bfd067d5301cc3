"""What the two APIs have in common: the seam between :mod:`.remote` and each wire format.

A wire format writes strictly (what the provider's published rules allow, nothing else) and reads
tolerantly (whatever servers that claim the API have been seen to send).

What is native to a provider, a signature of its thinking, say, is bound to the address and the
model that made it (:class:`Origin`). It goes back to that one alone; for another it is translated,
or left out. It never appears under another role.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from ...context.config_file import SelectedModel
from .messages import ModelReply, TokenCounts
from .port import ModelRequest, ModelText, ModelThinking

Delta = ModelText | ModelThinking
Json = dict[str, Any]


class Origin(NamedTuple):
    """Who made a reply: the API, the address asked and the model's id."""

    api: str
    address: str
    model: str

    def is_origin_of(self, reply: ModelReply) -> bool:
        """Whether ``reply`` came from here, so that what is native in it may go back."""
        native = reply.native or {}
        return (native.get("api"), native.get("address"), native.get("model")) == self

    def as_native(self) -> Json:
        return {"api": self.api, "address": self.address, "model": self.model}


class RequestPlan(NamedTuple):
    """What a body is made of. ``omitted``: optional fields that this server refuses.
    ``output_limit``: the most output tokens that it allows, where it has said so."""

    choice: SelectedModel
    origin: Origin
    request: ModelRequest
    omitted: frozenset[str]
    output_limit: int | None


class ReplyReader(Protocol):
    """Builds a reply from what the provider sends."""

    def read_event(self, data: Json) -> Iterable[Delta]:
        """One event of the stream. Raises :class:`~.port.ModelError` where it is an error."""

    def read_whole(self, body: Json) -> Iterable[Delta]:
        """A whole answer that came where a stream was asked for."""

    def flush_pending(self) -> Iterable[Delta]:
        """At the end: deltas that waited for more."""

    def mark_ended(self) -> None:
        """The stream's own word that it is over came (``[DONE]``, ``message_stop``)."""

    def reply(self) -> ModelReply:
        """All of it. Raises :class:`~.port.ModelError` where it is no answer, or has no end."""


class WireFormat(Protocol):
    """One API."""

    optional: tuple[str, ...]
    """Fields of a body that a turn can do without."""

    def url(self, address: str) -> str:
        """Where requests go, for a configured address."""

    def headers(self, choice: SelectedModel) -> dict[str, str]: ...

    def body(self, plan: RequestPlan) -> Json: ...

    def reader(self, plan: RequestPlan) -> ReplyReader: ...


def tokens(source: object, *path: str) -> int:
    """The count at ``path`` in a usage object; 0 where there is none. Some servers send floats."""
    for name in path:
        source = source.get(name) if isinstance(source, Mapping) else None
    if isinstance(source, bool) or not isinstance(source, int | float):
        return 0
    return max(int(source), 0) if math.isfinite(source) else 0


class UsageMeter:
    """The usage of one call, reported once or many times.

    Servers report running totals: in every chunk, only in the first, only in the last. So for each
    count the largest that was seen is the call's; nothing is added up.
    """

    def __init__(self) -> None:
        self.seen = TokenCounts()

    def report(self, counts: TokenCounts) -> None:
        seen = self.seen
        self.seen = TokenCounts(
            max(seen.input, counts.input),
            max(seen.output, counts.output),
            max(seen.cache_read, counts.cache_read),
            max(seen.cache_write, counts.cache_write),
        )


_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


def portable_id(call_id: str) -> str:
    """A call's id as every provider takes it (letters, digits, ``_``, ``-``; 40 at most)."""
    return call_id if _PLAIN_ID.fullmatch(call_id) else f"call_{_digest(call_id, 24)}"


def short_id(call_id: str) -> str:
    """A call's id as Mistral's models take it: nine letters and digits."""
    return call_id if _SHORT_ID.fullmatch(call_id) else _digest(call_id, 9)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:length]
