"""``/loops``: create, list, get and archive loops."""

from __future__ import annotations

from typing import Any

from ..loops.errors import InvalidCursor, PermissionRefused
from ..loops.models import LoopRecord, LoopState, SharedFolder, new_loop_id
from ..loops.ports.engine import EngineSelection
from ..loops.ports.sandbox import SandboxIsolation
from ..loops.service import NewLoop
from .handler import LoopatHandler
from .schemas import (
    CreateLoop,
    FolderView,
    LoopList,
    LoopObject,
    LoopsQuery,
)


def loop_object(
    loop: LoopRecord,
    selection: EngineSelection,
    isolation: SandboxIsolation,
    state: LoopState | None = None,
) -> LoopObject:
    """The contract's Loop object; with ``state`` as a single ``GET`` has it: also what the loop is
    doing, why it has its engine, and what its sandbox enforces."""
    fields: dict[str, Any] = {
        "id": loop.loop_id,
        "title": loop.title,
        "created_at": loop.created_at,
        "created_by": loop.owner,
        "archived": loop.archived,
        "archived_at": loop.archived_at,
        "metadata": dict(loop.metadata),
        "profiles": loop.profiles,
        "vault": loop.vault,
        "repo": loop.repo,
        "folders": [FolderView(path=f.path, write=f.write) for f in loop.folders],
        "engine": selection.engine.name,
        "sandbox": isolation.tier,
        "durable_choices": selection.engine.durable_choices,
    }
    if state is not None:
        fields |= {
            "engine_reason": selection.why,
            "isolation": isolation,
            "busy": state.busy,
            "queue_depth": state.queue_depth,
            "turn_count": state.turn_count,
            "current_turn": state.current,
        }
    return LoopObject(**fields)


class LoopsHandler(LoopatHandler):
    async def post(self) -> None:
        wanted = await self.read_body(CreateLoop, optional=True)
        if wanted.folders and self.caller.is_program:
            raise PermissionRefused("Folders of the server are for Jupyter sessions only.")
        draft = NewLoop(
            loop_id=new_loop_id(),
            owner=self.caller.name,
            title=wanted.title,
            metadata=wanted.metadata,
            profiles=None if wanted.profiles is None else tuple(wanted.profiles),
            vault=wanted.vault,
            repo=wanted.repo,
            folders=tuple(SharedFolder(folder.path, folder.write) for folder in wanted.folders),
        )
        loop = await self.service.create(draft)
        self.set_header("Location", self.address("loops", loop.loop_id))
        selection = await self.context.engines.select()
        self.send_json(201, loop_object(loop, selection, self.context.isolation))

    async def get(self) -> None:
        self.refuse_oversized()
        query = self.read_query(LoopsQuery)
        if query.after is not None and query.before is not None:
            raise InvalidCursor("Page with after or with before, not with both.")
        page = await self.context.store.loops.page(
            self.caller.name,
            limit=query.limit,
            after=query.after,
            before=query.before,
            archived=query.archived,
        )
        selection, isolation = await self.context.engines.select(), self.context.isolation
        data = [loop_object(loop, selection, isolation) for loop in page.loops]
        self.send_json(
            200,
            LoopList(
                data=data,
                first_id=data[0].id if data else None,
                last_id=data[-1].id if data else None,
                has_more=page.has_more,
            ),
        )


class LoopHandler(LoopatHandler):
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        selection = await self.context.engines.select()
        state = await self.context.store.loops.state(loop_id)
        self.send_json(200, loop_object(loop, selection, self.context.isolation, state))

    async def delete(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.archive(loop)
        self.send_json(204)
