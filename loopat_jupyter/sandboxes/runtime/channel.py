"""The server's end of a sandbox's control channel.

Frames from the sandbox are not trusted: one that is too short, has an unknown id, or is more than
its consumer allows is a :class:`ProtocolViolation`, for which the sandbox is ended. At most
``BATCH`` frames are read in one turn of the event loop, so that a flood cannot block it.
"""

from __future__ import annotations

import asyncio
import json
import marshal
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from loopat_jupyter.loops.ports.sandbox import FileError
from loopat_jupyter.sandboxes.inside import protocol

BATCH = 32
MARSHAL_VERSION = 4
"""The version that every Python since 3.4 reads: a sandbox may have another than the server."""
CREDENTIALS_SIZE = 12
ANCILLARY_SIZE = socket.CMSG_SPACE(CREDENTIALS_SIZE) + socket.CMSG_SPACE(4)


class ProtocolViolation(Exception):
    """The sandbox sent something that the supervisor never sends."""


class FrameConsumer(Protocol):
    """Takes the frames of one request."""

    def receive_frame(self, kind: bytes, payload: bytes) -> bool:
        """Take a frame; whether it was the last. Raises :class:`ProtocolViolation`."""

    def lost(self, error: Exception) -> None:
        """No more frames will come."""


class PendingReply:
    """The reply to a request: at most ``limit`` bytes, and the JSON object that ends it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.done: asyncio.Future[tuple[bytes, dict[str, Any]]] = (
            asyncio.get_running_loop().create_future()
        )

    def receive_frame(self, kind: bytes, payload: bytes) -> bool:
        if kind == protocol.OUT:
            self._data += payload
            if len(self._data) > self._limit:
                raise ProtocolViolation("a reply over its limit")
            return False
        if kind != protocol.END:
            raise ProtocolViolation("an unexpected frame")
        end = parse_end(payload)
        if not self.done.done():
            self.done.set_result((bytes(self._data), end))
        return True

    def lost(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # marks it as retrieved: perhaps nobody waits any more


def parse_end(payload: bytes) -> dict[str, Any]:
    """The object in an ``END`` frame. Raises :class:`ProtocolViolation`."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation("an end that is no JSON") from error
    if not isinstance(value, dict):
        raise ProtocolViolation("an end that is no object")
    return value


def parse_file_reply(data: bytes, end: dict[str, Any]) -> dict[str, Any]:
    """The result of a file operation. Raises ``FileError``, also for a reply that is no object."""
    if "error" in end:
        raise FileError(str(end["error"])[:2000])
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        raise FileError("The file operation was cut off.") from None
    if not isinstance(reply, dict):
        raise FileError("The file operation gave no answer.")
    if "error" in reply:
        raise FileError(str(reply["error"])[:2000])
    return reply


class Channel:
    """Sends and receives frames on the running event loop, and owns the socket.

    ``on_lost`` is called with a reason when the channel ends or the sandbox breaks the protocol.
    ``on_listener`` is called once, with the egress proxy's listening socket when the supervisor
    sends it; where it is ``None`` no descriptor is expected.
    """

    def __init__(
        self,
        end: socket.socket,
        on_lost: Callable[[str], None],
        on_listener: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._socket = end
        self._on_lost = on_lost
        self._on_listener = on_listener
        self._listener_received = False
        self._loop = asyncio.get_running_loop()
        self._consumers: dict[int, FrameConsumer] = {}
        self._outbox: deque[bytes] = deque()
        self._last_id = 0
        self._open = True
        self.ready: asyncio.Future[int] = self._loop.create_future()
        """The supervisor's pid in the server's namespace, known when its first frame has come."""
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.add_reader(end, self._on_readable)

    # ------------------------------------------------------------------ out

    def request(self, consumer: FrameConsumer | None, **fields: Any) -> int:
        """Send a request, whose frames go to ``consumer``; the request's id."""
        self._last_id += 1
        number = self._last_id
        if consumer is not None:
            self._consumers[number] = consumer
        *parts, last = protocol.split_payload(marshal.dumps(fields, MARSHAL_VERSION))
        for part in parts:
            self.send_frame(protocol.REQUEST_PART, number, part)
        self.send_frame(protocol.REQUEST, number, last)
        return number

    def send_frame(self, kind: bytes, request: int, payload: bytes = b"") -> None:
        if not self._open:
            return
        self._outbox.append(protocol.encode_frame(kind, request, payload))
        if len(self._outbox) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._socket.send(self._outbox[0])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError as error:
                self.close()
                self._on_lost(f"its channel broke ({os.strerror(error.errno or 0)})")
                return
            self._outbox.popleft()
        self._loop.remove_writer(self._socket)

    # ------------------------------------------------------------------ in

    def _on_readable(self) -> None:
        for _ in range(BATCH):
            if not self._open:
                return
            try:
                packet = self._receive()
            except BlockingIOError:
                return
            except ProtocolViolation as error:
                self._on_lost(f"its supervisor broke the protocol ({error})")
                return
            except OSError:
                packet = b""
            if not packet:
                self._on_lost("it ended")
                return
            try:
                self._dispatch(*protocol.decode_frame(packet))
            except (ProtocolViolation, ValueError) as error:
                self._on_lost(f"its supervisor broke the protocol ({error})")
                return

    def _receive(self) -> bytes:
        if self.ready.done() and self._on_listener is None:
            return self._socket.recv(protocol.PACKET_MAX)
        packet, ancillary, _, _ = self._socket.recvmsg(
            protocol.PACKET_MAX, ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_RIGHTS:
                self._receive_listener(packet, data)
            elif kind == socket.SCM_CREDENTIALS and packet and not self.ready.done():
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
                self.ready.set_result(int.from_bytes(data[:4], sys.byteorder))
        return packet

    def _receive_listener(self, packet: bytes, rights: bytes) -> None:
        """Take the one listening socket that is expected; close any other descriptor and raise
        :class:`ProtocolViolation`."""
        fds = [
            int.from_bytes(rights[at : at + 4], sys.byteorder) for at in range(0, len(rights), 4)
        ]
        on_listener, self._on_listener = self._on_listener, None
        listener = _as_listener(fds[0]) if len(fds) == 1 else None
        if on_listener is None or listener is None or packet[:1] != protocol.LISTENER:
            for fd in fds if listener is None else ():
                os.close(fd)
            if listener is not None:
                listener.close()
            raise ProtocolViolation("an unexpected descriptor")
        self._listener_received = True
        on_listener(listener)

    def _dispatch(self, kind: bytes, request: int, payload: bytes) -> None:
        if kind == protocol.READY and request == 0:
            return
        if kind == protocol.LISTENER and request == 0 and self._listener_received:
            return
        consumer = self._consumers.get(request)
        if consumer is None:
            raise ProtocolViolation("a frame of an unknown request")
        if consumer.receive_frame(kind, payload):
            del self._consumers[request]

    # ------------------------------------------------------------------ end

    def fail(self, error: Exception) -> None:
        """Fail every pending request."""
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            consumer.lost(error)
        if not self.ready.done():
            self.ready.set_exception(error)
            self.ready.exception()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._outbox.clear()
            self._socket.close()


def _as_listener(fd: int) -> socket.socket | None:
    """The descriptor as a socket, if it is a listening IPv4 socket; else the caller keeps it."""
    try:
        listener = socket.socket(fileno=fd)
    except OSError:
        return None
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.family == socket.AF_INET and listener.type == socket.SOCK_STREAM and listens:
        return listener
    listener.detach()
    return None
