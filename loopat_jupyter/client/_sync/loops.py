# Generated from ../_async/loops.py by `python tools/generate_sync_client.py`: edit that file.
"""The collection of the caller's loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .. import _requests
from .._models import Folder, LoopPage
from .loop import Loop
from .transport import Transport


class Loops:
    """``client.loops``: the caller's own loops."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        title: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        profiles: Sequence[str] | None = None,
        vault: str | None = None,
        repo: str | None = None,
        folders: Sequence[Folder] | None = None,
    ) -> Loop:
        """Create a loop.

        Not retried after a broken connection, since it might then be created twice.
        """
        request = _requests.create_loop(
            title,
            metadata,
            None if profiles is None else list(profiles),
            vault,
            repo,
            None if folders is None else list(folders),
        )
        return Loop(self._transport, self._transport.request(request))

    def list(self, *, archived: bool = False, page_size: int = 100) -> Iterator[Loop]:
        """All loops, newest created first, through all pages; ``archived`` ones on request."""
        after: str | None = None
        while True:
            page = self.page(limit=page_size, after=after, archived=archived)
            for info in page.data:
                yield Loop(self._transport, info)
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def page(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        before: str | None = None,
        archived: bool = False,
    ) -> LoopPage:
        """One page of the listing, as the server returned it."""
        return self._transport.request(_requests.list_loops(limit, after, before, archived))

    def get(self, loop_id: str) -> Loop:
        """The loop with its runtime state. Raises ``NotFoundError``."""
        info = self._transport.request(_requests.get_loop(loop_id))
        return Loop(self._transport, info)

    def archive(self, loop_id: str) -> None:
        """Archive a loop: its turns end, its record stays. Archiving again changes nothing."""
        self._transport.request(_requests.archive_loop(loop_id))
