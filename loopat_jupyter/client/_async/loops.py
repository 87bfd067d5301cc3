"""The collection of the caller's loops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from .. import _requests
from .._models import Folder, LoopPage
from .loop import AsyncLoop
from .transport import AsyncTransport


class AsyncLoops:
    """``client.loops``: the caller's own loops."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        title: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        profiles: Sequence[str] | None = None,
        vault: str | None = None,
        repo: str | None = None,
        folders: Sequence[Folder] | None = None,
    ) -> AsyncLoop:
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
        return AsyncLoop(self._transport, await self._transport.request(request))

    async def list(
        self, *, archived: bool = False, page_size: int = 100
    ) -> AsyncIterator[AsyncLoop]:
        """All loops, newest created first, through all pages; ``archived`` ones on request."""
        after: str | None = None
        while True:
            page = await self.page(limit=page_size, after=after, archived=archived)
            for info in page.data:
                yield AsyncLoop(self._transport, info)
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    async def page(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        before: str | None = None,
        archived: bool = False,
    ) -> LoopPage:
        """One page of the listing, as the server returned it."""
        return await self._transport.request(_requests.list_loops(limit, after, before, archived))

    async def get(self, loop_id: str) -> AsyncLoop:
        """The loop with its runtime state. Raises ``NotFoundError``."""
        info = await self._transport.request(_requests.get_loop(loop_id))
        return AsyncLoop(self._transport, info)

    async def archive(self, loop_id: str) -> None:
        """Archive a loop: its turns end, its record stays. Archiving again changes nothing."""
        await self._transport.request(_requests.archive_loop(loop_id))
