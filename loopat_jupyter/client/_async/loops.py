"""The collection of a caller's loops, for asyncio callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from .. import _requests
from .._models import Folder, LoopPage
from .loop import AsyncLoop
from .transport import AsyncTransport


class AsyncLoops:
    """``client.loops``: the caller's own loops."""

    def __init__(self, carrier: AsyncTransport) -> None:
        self._carrier = carrier

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
        """Make a loop. Not sent again after a broken connection: it might then be made twice."""
        call = _requests.create_loop(
            title,
            metadata,
            None if profiles is None else list(profiles),
            vault,
            repo,
            None if folders is None else list(folders),
        )
        return AsyncLoop(self._carrier, await self._carrier.request(call))

    async def list(
        self, *, archived: bool = False, page_size: int = 100
    ) -> AsyncIterator[AsyncLoop]:
        """All loops, newest created first, through all pages; ``archived`` ones on request."""
        after: str | None = None
        while True:
            page = await self.page(limit=page_size, after=after, archived=archived)
            for info in page.data:
                yield AsyncLoop(self._carrier, info)
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
        """One page of the listing, as the server cut it."""
        return await self._carrier.request(_requests.list_loops(limit, after, before, archived))

    async def get(self, loop_id: str) -> AsyncLoop:
        """The loop with its runtime state. Raises ``NotFoundError``."""
        return AsyncLoop(self._carrier, await self._carrier.request(_requests.get_loop(loop_id)))

    async def archive(self, loop_id: str) -> None:
        await self._carrier.request(_requests.archive_loop(loop_id))
