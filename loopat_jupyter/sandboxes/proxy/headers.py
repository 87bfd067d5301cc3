"""Which headers of a message are forwarded, and which are for one connection only.

The headers that frame a message (``Content-Length``, ``Transfer-Encoding``) are each hop's own: a
length is forwarded only where it framed the message, so that no two readers can see different ends
of it (request smuggling).
"""

from __future__ import annotations

from collections.abc import Iterable

from loopat_jupyter.loops.ports.network import Headers

_HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect",
    }
)  # fmt: skip


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers without the hop-by-hop ones and those that ``Connection`` names."""
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    names = {name for name, _ in pairs}
    if not names & {"connection", "transfer-encoding"}:
        return [pair for pair in pairs if pair[0] not in _HOP_BY_HOP]
    dropped = set(_HOP_BY_HOP)
    if "transfer-encoding" in names:
        dropped.add("content-length")
    for name, value in pairs:
        if name == "connection":
            dropped.update(word.strip().lower() for word in value.split(","))
    return [pair for pair in pairs if pair[0] not in dropped]


def has_header(headers: Headers, wanted: str) -> bool:
    return any(name == wanted for name, _ in headers)
