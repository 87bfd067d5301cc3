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
SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
NOTHING_THERE = (BlockingIOError, InterruptedError, ConnectionAbortedError)

log = logging.getLogger(__name__)


class Listener:
    """One door, owned until :meth:`close`. ``ours``: it was made here and nobody else has it.
    ``user``: only sockets of this user id are let in; ``None``: everybody's."""

    def __init__(
        self, door: socket.socket, loop_id: str, *, ours: bool, user: int | None = None
    ) -> None:
        door.setblocking(False)
        self.port: int = door.getsockname()[1]
        self._door = door
        self._loop_id = loop_id
        self._ours = ours
        self._user = user
        self._taking: asyncio.Future[socket.socket | OSError] | None = None
        self._left = False

    async def next(self) -> socket.socket | None:
        """The next connection; ``None`` when the door takes none any more."""
        while True:
            try:
                connection = await (self._accept() if self._ours else self._accept_in_thread())
            except NOTHING_THERE:
                continue
            except OSError as error:
                log.warning("The broker of %s cannot take a visitor: %s", self._loop_id, error)
                if error.errno not in SHORT_OF:
                    return None
                await asyncio.sleep(ACCEPT_RETRY)
                continue
            if self._user in (None, peer_uid(connection, self._user)):
                return connection
            connection.close()

    async def _accept(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._door)
        return connection

    async def _accept_in_thread(self) -> socket.socket:
        await self._wait_readable()
        self._taking = self._take()
        outcome = await asyncio.shield(self._taking)
        self._taking = None
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async def _wait_readable(self) -> None:
        """Returns when somebody is at the door, or was."""
        loop = asyncio.get_running_loop()
        knocked = asyncio.Event()
        loop.add_reader(self._door, knocked.set)
        try:
            await knocked.wait()
        finally:
            loop.remove_reader(self._door)

    def _take(self) -> asyncio.Future[socket.socket | OSError]:
        """Accept in a thread. The door's number is not used there: it may be another file's by
        the time the thread begins."""
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[socket.socket | OSError] = loop.create_future()
        door = self._door.dup()
        door.setblocking(False)

        def take() -> None:
            outcome: socket.socket | OSError
            try:
                with door:
                    outcome, _ = door.accept()
                outcome.setblocking(False)
            except OSError as error:
                outcome = error
            try:
                loop.call_soon_threadsafe(taken.set_result, outcome)
            except RuntimeError:  # the server has stopped meanwhile
                return

        try:
            threading.Thread(target=take, name="loopat-door", daemon=True).start()
        except RuntimeError as error:
            door.close()
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
        return taken

    def release(self) -> None:
        """Take nobody any more. A thread that waits at the door is woken. Idempotent."""
        if self._left:
            return
        self._left = True
        self._wake()
        if self._taking is None:
            self._door.close()
        else:
            self._taking.add_done_callback(self._reject)

    def _reject(self, taking: asyncio.Future[socket.socket | OSError]) -> None:
        """Whom the thread let in when nobody waited for it any more; it was the last."""
        if isinstance(outcome := taking.result(), socket.socket):
            outcome.close()
        self._taking = None
        self._door.close()

    async def close(self) -> None:
        """When it returns no thread and no file is left. The sandbox has ended by then, so nobody
        can open the door again behind us."""
        self.release()
        while self._taking is not None:
            self._wake()
            await asyncio.wait([self._taking])
            await asyncio.sleep(0)  # its callbacks

    def _wake(self) -> None:
        try:
            self._door.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was shut from the other side
