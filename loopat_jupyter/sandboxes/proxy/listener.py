"""Where a broker takes its connections: the listening socket, and who may come in.

A door that was handed out from inside shares its file description with whoever made it. That side
can turn ``O_NONBLOCK`` off and take a connection away in the moment between the event that
announces it and the ``accept``, which then waits for ever. So such a door is never asked on the
event loop: a thread of its own takes each connection, and only that thread could be made to wait.

A door on the host's loopback can be found by everybody on the machine. The kernel is asked whose
the other end is, and anybody but the sandbox's user is turned away before they take a place.
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
"""Seconds, when there are no files or threads to be had: nothing says when there are again."""
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
NO_CONNECTION = (BlockingIOError, InterruptedError, ConnectionAbortedError)

log = logging.getLogger(__name__)


class Listener:
    """One door, owned until :meth:`close`. ``ours``: it was made here and nobody else has it.
    ``user``: only sockets of this user id are let in; ``None``: everybody's."""

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
        """The next connection; ``None`` when the door takes none any more."""
        while True:
            try:
                connection = await (
                    self._accept_on_loop() if self._private else self._accept_in_thread()
                )
            except NO_CONNECTION:
                continue
            except OSError as error:
                log.warning("The broker of %s cannot take a visitor: %s", self._loop_id, error)
                if error.errno not in OUT_OF_RESOURCES:
                    return None
                await asyncio.sleep(ACCEPT_RETRY)
                continue
            if self._uid in (None, peer_uid(connection, self._uid)):
                return connection
            connection.close()

    async def _accept_on_loop(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
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
        """Returns when somebody is at the door, or was."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._socket)

    def _start_accept(self) -> asyncio.Future[socket.socket | OSError]:
        """Accept in a thread. The door's number is not used there: it may be another file's by
        the time the thread begins."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[socket.socket | OSError] = loop.create_future()
        listener = self._socket.dup()
        listener.setblocking(False)

        def take() -> None:
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
            threading.Thread(target=take, name="loopat-accept", daemon=True).start()
        except RuntimeError as error:
            listener.close()
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
        return accepted

    def release(self) -> None:
        """Take nobody any more. A thread that waits at the door is woken. Idempotent."""
        if self._released:
            return
        self._released = True
        self._wake()
        if self._accepting is None:
            self._socket.close()
        else:
            self._accepting.add_done_callback(self._reject)

    def _reject(self, accepting: asyncio.Future[socket.socket | OSError]) -> None:
        """Whom the thread let in when nobody waited for it any more; it was the last."""
        if isinstance(outcome := accepting.result(), socket.socket):
            outcome.close()
        self._accepting = None
        self._socket.close()

    async def close(self) -> None:
        """When it returns no thread and no file is left. The sandbox has ended by then, so nobody
        can open the door again behind us."""
        self.release()
        while self._accepting is not None:
            self._wake()
            await asyncio.wait([self._accepting])
            await asyncio.sleep(0)  # its callbacks

    def _wake(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was shut from the other side
