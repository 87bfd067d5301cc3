"""``/loops/{id}/network``: what left the loop's sandbox, and what was not let out."""

from __future__ import annotations

from .handler import LoopatHandler
from .operations import Operation, Parameter, ResponseSpec, operation
from .parameters import LIMIT, LOOP_ID
from .schemas import NetworkList, NetworkRequestView, PageQuery


class NetworkHandler(LoopatHandler):
    @operation(
        Operation(
            "listNetwork",
            "loops",
            "Read what the loop's sandbox asked of the network, newest first",
            ResponseSpec(
                200,
                "One page of the audit. The newest 10,000 requests of a loop are kept.",
                NetworkList,
                {
                    "data": [
                        {
                            "id": "net_42",
                            "started_at": "2026-01-31T12:00:00.000000Z",
                            "kind": "connect",
                            "host": "example.org",
                            "port": 443,
                            "verdict": "refused",
                            "reason": "example.org:443 is not on the allow-list of this loop.",
                            "bytes_out": 0,
                            "bytes_in": 0,
                        }
                    ],
                    "has_more": False,
                    "last_id": "net_42",
                },
            ),
            parameters=(
                LOOP_ID,
                LIMIT,
                Parameter(
                    "after",
                    "query",
                    "The `last_id` of a page; gives older requests.",
                    {"type": "string", "maxLength": 200},
                ),
            ),
            errors=("invalid_parameter", "invalid_cursor", "not_loop_owner", "loop_not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(PageQuery)
        page = await self.service.network(loop, limit=query.limit, after=query.after)
        data = [
            NetworkRequestView(
                id=number,
                started_at=line.started_at,
                kind=line.kind,
                host=line.host,
                port=line.port,
                verdict=line.verdict,
                reason=line.reason,
                bytes_out=line.bytes_out,
                bytes_in=line.bytes_in,
            )
            for number, line in page.lines
        ]
        last_id = data[-1].id if data else None
        self.send_json(200, NetworkList(data=data, has_more=page.has_more, last_id=last_id))
