"""``/loops/{id}/network``: the audit of the requests that the loop's sandbox made."""

from __future__ import annotations

from .handler import LoopatHandler
from .schemas import NetworkList, NetworkRequestView, PageQuery


class NetworkHandler(LoopatHandler):
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(PageQuery)
        page = await self.context.store.audit.page(
            loop.loop_id, limit=query.limit, after=query.after
        )
        data = [
            NetworkRequestView(
                id=request_id,
                started_at=entry.started_at,
                kind=entry.kind,
                host=entry.host,
                port=entry.port,
                verdict=entry.verdict,
                reason=entry.reason,
                bytes_out=entry.bytes_out,
                bytes_in=entry.bytes_in,
            )
            for request_id, entry in page.lines
        ]
        last_id = data[-1].id if data else None
        self.send_json(200, NetworkList(data=data, has_more=page.has_more, last_id=last_id))
