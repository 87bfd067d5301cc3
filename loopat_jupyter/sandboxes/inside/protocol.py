"""The frames of the control channel, for the server and the supervisor alike.

The channel is a ``SOCK_SEQPACKET`` pair: one packet is one frame,
``kind (1 byte) | id (4 bytes, big endian) | payload``. Requests are ``marshal`` of plain values
(the supervisor trusts the server, and every Python reads them); replies are plain bytes and small
JSON objects, which the server checks.
"""

from __future__ import annotations

PAYLOAD_MAX = 60_000
PACKET_MAX = PAYLOAD_MAX + 5

# server -> supervisor
REQUEST_PART = b"q"
REQUEST = b"Q"
"""The last, or only, part of a request."""
KILL = b"K"
"""Send a signal to the process group of an id; the payload is the signal's number (1 byte)."""
STDIN = b"W"
STDIN_END = b"C"
RESIZE = b"Z"
CREDIT = b"G"
"""The reader has taken so many bytes (4 bytes) of stream 0 (stdout) or 1 (stderr) (1 byte)."""

# supervisor -> server
READY = b"R"
LISTENER = b"N"
"""The listening socket of the egress proxy comes with this frame, as a descriptor."""
STARTED = b"B"
"""The pid (4 bytes) of a process that was spawned."""
OUT = b"D"
ERR = b"S"
OUT_END = b"d"
ERR_END = b"s"
STDIN_WRITTEN = b"T"
"""This many bytes (4 bytes) of stdin were written to the process."""
STDIN_CLOSED = 0xFFFFFFFF
"""In the place of that count: the process's stdin is closed."""
EXIT = b"E"
"""The exit code (4 bytes, signed) of a process that was spawned."""
END = b"X"
"""The last frame of an id: a JSON object."""

WINDOW = 128 * 1024
"""How many bytes of one stream may be sent and not yet acknowledged, in each direction."""


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
