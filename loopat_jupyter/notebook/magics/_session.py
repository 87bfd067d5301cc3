"""The kernel's connection to its server, and the current loop of its cells."""

from __future__ import annotations

from dataclasses import dataclass, field

from IPython.core.error import UsageError

from loopat_jupyter.client import Client, Loop, find_server
from loopat_jupyter.notebook.output import find_previous_loop, record_cell_loop, set_current_loop

from ._lookup import find_loop


@dataclass(slots=True)
class MagicsSession:
    """One for each kernel. The client is made when it is needed."""

    loop_id: str | None = None
    """The current loop."""
    chosen: bool = False
    """Whether a person named the current loop; otherwise a cell chose it."""
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """A client of the server that this kernel belongs to *now*: it may have been restarted.

        Raises:
            ServerNotFound: the kernel belongs to none.
        """
        address = find_server()
        if self._client is None or self._client.address != address:
            self.close()
            self._client = Client(address)
        return self._client

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def find(self, name: str) -> Loop:
        """The caller's loop that ``name`` means, with its present state.

        Raises:
            UsageError: none has that title or id, or several have, or it is archived.
        """
        loops = list(self.client.loops.list(archived=True))
        active = [loop for loop in loops if not loop.archived]
        archived = [loop for loop in loops if loop.archived and name in {loop.id, loop.title}]
        try:
            return find_loop(name, active)
        except UsageError:
            if archived:
                _refuse_archived(archived[0])
            raise

    def choose(self, loop: Loop) -> Loop:
        """Make ``loop`` the current one, as a person asked."""
        self.loop_id, self.chosen = loop.id, True
        record_cell_loop(loop.id)
        set_current_loop(loop.id)
        return loop

    def create(self, title: str | None) -> Loop:
        return self.client.loops.create(title or None)

    def current_loop(self) -> Loop:
        """The current loop, with its present state. Raises ``UsageError`` if there is none."""
        if self.loop_id is None:
            raise UsageError("no loop yet: %loop new TITLE makes one, %loop use NAME takes one")
        return self.client.loops.get(self.loop_id)

    def loop_for_cell(self, name: str | None) -> tuple[Loop, str | None]:
        """The loop for a cell's message, and a sentence if it is another than was to be expected.

        The first of: the one that the cell names; the one that a person chose in this kernel; the
        one that this cell used before (also in an earlier kernel, by the notebook file); the one
        that another cell uses; a new one.
        """
        if name is not None:
            return self._use(self.find(name)), None
        if self.chosen:
            return self._use(_refuse_archived(self.current_loop())), None
        previous = find_previous_loop(self.client)
        if previous.loop is not None:
            return self._use(previous.loop), None
        if self.loop_id is not None and not (loop := self.current_loop()).archived:
            return self._use(loop), previous.reason
        loop = self._use(self.create(previous.notebook))
        return loop, f"{previous.reason}; this is a new loop" if previous.reason else None

    def _use(self, loop: Loop) -> Loop:
        self.loop_id = self.loop_id if self.chosen else loop.id
        record_cell_loop(loop.id)
        set_current_loop(self.loop_id)
        return loop


def _refuse_archived(loop: Loop) -> Loop:
    if loop.archived:
        raise UsageError(
            f"the loop {loop.title!r} is archived and takes no messages: "
            "%loop new TITLE makes one, %loop use NAME takes another"
        )
    return loop
