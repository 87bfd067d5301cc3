"""The collection of a caller's loops, for synchronous callers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .. import _requests
from .._models import Folder, LoopPage
from .loop import Loop
from .transport import Transport


class Loops:
    """``client.loops``: the caller's own loops."""

    def __init__(self, carrier: Transport) -> None:
        self._carrier = carrier

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
        """Make a loop. Not sent again after a broken connection: it might then be made twice."""
        call = _requests.create_loop(
            title,
            metadata,
            None if profiles is None else list(profiles),
            vault,
            repo,
            None if folders is None else list(folders),
        )
        return Loop(self._carrier, self._carrier.request(call))

    def list(self, *, archived: bool = False, page_size: int = 100) -> Iterator[Loop]:
        """All loops, newest created first, through all pages; ``archived`` ones on request."""
        after: str | None = None
        while True:
            page = self.page(limit=page_size, after=after, archived=archived)
            yield from (Loop(self._carrier, info) for info in page.data)
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
        """One page of the listing, as the server cut it."""
        return self._carrier.request(_requests.list_loops(limit, after, before, archived))

    def get(self, loop_id: str) -> Loop:
        """The loop with its runtime state. Raises ``NotFoundError``."""
        return Loop(self._carrier, self._carrier.request(_requests.get_loop(loop_id)))

    def archive(self, loop_id: str) -> None:
        self._carrier.request(_requests.archive_loop(loop_id))
