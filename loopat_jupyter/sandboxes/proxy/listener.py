"""Accepts connections at an egress proxy's listening socket.

A socket that was made inside the sandbox shares its file description with the process that made it.
That process can clear ``O_NONBLOCK``, and accept a connection itself between the event that
announces it and the server's ``accept``, which then blocks for ever. So such a socket is never
accepted from on the event loop: a thread accepts each connection, and only that thread can block.

A socket on the host's loopback interface can be connected to by everybody on the machine. The
kernel tells the user of the other end, and connections of others than the sandbox's user are closed
before they are counted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading

from loopat_jupyter.sandboxes.proxy.peer_uid import peer_uid

ACCEPT_RETRY = 1.0
"""Seconds to wait when there are no more files or threads: no event tells when there are again."""
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
NO_CONNECTION = (BlockingIOError, InterruptedError, ConnectionAbortedError)

log = logging.getLogger(__name__)


class Listener:
    """Accepts connections at one listening socket, which it owns until :meth:`close`.

    ``private``: it was made in this process and no other has it. ``uid``: only connections of this
    user are accepted; ``None``: all.
    """

    def __init__(
        self, listener: socket.socket, loop_id: str, *, private: bool, uid: int | None = None
    ) -> None:
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        self._socket = listener
        self._loop_id = loop_id
        self._private = private
        self._uid = uid
        self._accepting: asyncio.Future[socket.socket | OSError] | None = None
        self._released = False

    async def accept(self) -> socket.socket | None:
        """The next connection; ``None`` when the socket accepts none any more."""
        while True:
            try:
                connection = await (
                    self._accept_on_loop() if self._private else self._accept_in_thread()
                )
            except NO_CONNECTION:
                continue
            except OSError as error:
                log.warning(
                    "The egress proxy of %s cannot accept a connection: %s", self._loop_id, error
                )
                if error.errno not in OUT_OF_RESOURCES:
                    return None
                await asyncio.sleep(ACCEPT_RETRY)
                continue
            try:
                if self._uid in (None, peer_uid(connection, self._uid)):
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()

    async def _accept_on_loop(self) -> socket.socket:
        """Accept when a connection waits. ``loop.sock_accept`` would lose one, and leave it open,
        where the cancellation comes between its accept and the await."""
        await self._wait_readable()
        connection, _ = self._socket.accept()
        connection.setblocking(False)
        return connection

    async def _accept_in_thread(self) -> socket.socket:
        await self._wait_readable()
        self._accepting = self._start_accept()
        outcome = await asyncio.shield(self._accepting)
        self._accepting = None
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def _wait_readable(self) -> None:
        """Returns when a connection waits, or waited: it may be gone by then."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._socket)

    def _start_accept(self) -> asyncio.Future[socket.socket | OSError]:
        """Accept in a thread, from a duplicate of the descriptor: the number of the original may be
        another file's by the time the thread runs."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[socket.socket | OSError] = loop.create_future()
        listener = self._socket.dup()
        listener.setblocking(False)

        def accept() -> None:
            outcome: socket.socket | OSError
            try:
                with listener:
                    outcome, _ = listener.accept()
                outcome.setblocking(False)
            except OSError as error:
                outcome = error
            try:
                loop.call_soon_threadsafe(accepted.set_result, outcome)
            except RuntimeError:  # the server has stopped meanwhile
                return

        try:
            threading.Thread(target=accept, name="loopat-accept", daemon=True).start()
        except RuntimeError as error:
            listener.close()
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
        return accepted

    def release(self) -> None:
        """Stop accepting, and wake a thread that waits in ``accept``. Idempotent."""
        if self._released:
            return
        self._released = True
        self._wake()
        if self._accepting is None:
            self._socket.close()
        else:
            self._accepting.add_done_callback(self._reject)

    def _reject(self, accepting: asyncio.Future[socket.socket | OSError]) -> None:
        """Close what the thread accepted after :meth:`release`, and the socket."""
        if isinstance(outcome := accepting.result(), socket.socket):
            outcome.close()
        self._accepting = None
        self._socket.close()

    async def close(self) -> None:
        """Returns when no thread and no open file is left. The sandbox has ended by then, so no
        process of it can make the socket listen again."""
        self.release()
        while self._accepting is not None:
            self._wake()
            await asyncio.wait([self._accepting])
            await asyncio.sleep(0)  # its callbacks

    def _wake(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was shut down by the process that made it
