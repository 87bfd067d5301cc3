"""The control channel's frames; used on both sides, so standard library only, and lean.

The channel is a ``SOCK_SEQPACKET`` pair: one packet is one frame,
``kind (1 byte) | id (4 bytes, big endian) | payload``. Requests are ``marshal`` of plain values
(the server is trusted, and every Python reads them); answers are plain bytes and small JSON
objects, which the server parses without trust.
"""

from __future__ import annotations

PAYLOAD_MAX = 60_000
PACKET_MAX = PAYLOAD_MAX + 5

# server -> supervisor
REQUEST_PART = b"q"
REQUEST = b"Q"
"""The last, or only, part of a request."""
KILL = b"K"
"""Signal the process group of an id; the payload is the signal number."""
STDIN = b"W"
STDIN_END = b"C"
RESIZE = b"Z"
CREDIT = b"G"
"""Of stream 0 (stdout) or 1 (stderr) (1 byte) the consumer has taken so many bytes (4 bytes)."""

# supervisor -> server
READY = b"R"
LISTENER = b"N"
"""The broker's listening socket comes with this frame, as a descriptor."""
STARTED = b"B"
"""The pid (4 bytes) of a process that was spawned."""
OUT = b"D"
ERR = b"S"
OUT_END = b"d"
ERR_END = b"s"
STDIN_WRITTEN = b"T"
"""The process has taken this many bytes (4 bytes) of stdin."""
STDIN_CLOSED = 0xFFFFFFFF
"""As a count: nobody reads stdin any more."""
EXIT = b"E"
"""The exit code (4 bytes, signed) of a process that was spawned."""
END = b"X"
"""The last frame of an id: a JSON object."""

WINDOW = 128 * 1024
"""How many bytes of one stream may be on their way, in either direction."""


def encode_frame(kind: bytes, request: int, payload: bytes = b"") -> bytes:
    """One packet."""
    return kind + request.to_bytes(4, "big") + payload


def decode_frame(packet: bytes) -> tuple[bytes, int, bytes]:
    """Kind, id and payload of a packet; raises ``ValueError`` for a short one."""
    if len(packet) < 5:
        raise ValueError("short frame")
    return packet[:1], int.from_bytes(packet[1:5], "big"), packet[5:]


def split_payload(data: bytes) -> list[bytes]:
    """``data`` in pieces that fit a frame; nothing for no data."""
    return [data[i : i + PAYLOAD_MAX] for i in range(0, len(data), PAYLOAD_MAX)]
