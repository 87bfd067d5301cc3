"""``/loops``: create, list, look at, archive."""

from __future__ import annotations

from typing import Any

from ..loops.errors import InvalidCursor, PermissionRefused
from ..loops.models import GivenFolder, LoopState, new_loop_id
from ..loops.models import LoopRecord as LoopRecord
from ..loops.ports.engine import EngineSelection
from ..loops.service import LoopService, NewLoop
from .handler import LoopatHandler
from .operations import Operation, Parameter, ResponseSpec, operation
from .parameters import IDLE_EXAMPLE, LIMIT, LOOP_EXAMPLE, LOOP_ID
from .schemas import (
    CreateLoop,
    CurrentTurnView,
    FolderView,
    LoopList,
    LoopObject,
    LoopsQuery,
    SandboxView,
)


def loop_view(
    service: LoopService,
    loop: LoopRecord,
    choice: EngineSelection,
    state: LoopState | None = None,
) -> LoopObject:
    """The Loop object; with ``state`` also what it is doing, and why things are as they are."""
    fields: dict[str, Any] = {
        "id": loop.loop_id,
        "title": loop.title,
        "created_at": loop.created_at,
        "created_by": loop.owner,
        "archived": loop.archived,
        "archived_at": loop.archived_at,
        "metadata": dict(loop.metadata),
        "profiles": list(loop.profiles),
        "vault": loop.vault,
        "repo": loop.repo,
        "folders": [FolderView(path=f.path, write=f.write) for f in loop.folders],
        "engine": choice.engine.name,
        "sandbox": service.isolation.tier,
        "durable_choices": choice.engine.durable_choices,
    }
    if state is not None:
        current = state.current
        isolation = service.isolation
        fields |= {
            "engine_reason": choice.why,
            "isolation": SandboxView(
                isolates=isolation.isolates,
                enforced=list(isolation.enforced),
                gaps=list(isolation.gaps),
            ),
            "busy": state.busy,
            "queue_depth": state.queue_depth,
            "turn_count": state.turn_count,
            "current_turn": current
            and CurrentTurnView(
                turn_id=current.turn_id,
                started_at=current.started_at,
                pending_choice_id=current.pending_choice_id,
            ),
        }
    return LoopObject(**fields)


class LoopsHandler(LoopatHandler):
    @operation(
        Operation(
            "createLoop",
            "loops",
            "Create a loop",
            ResponseSpec(201, "The new loop.", LoopObject, LOOP_EXAMPLE),
            description="The body is optional. A failed creation leaves nothing behind.",
            body=CreateLoop,
            body_required=False,
            body_example={"title": "Tidy the data folder", "metadata": {"ticket": "DATA-7"}},
            errors=(
                "invalid_json",
                "invalid_parameter",
                "title_too_long",
                "metadata_too_large",
                "unknown_profile",
                "unknown_vault",
                "unknown_repo",
                "forbidden",
            ),
        )
    )
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
            folders=tuple(GivenFolder(folder.path, folder.write) for folder in wanted.folders),
        )
        loop = await self.service.create(draft)
        self.set_header("Location", self.address("loops", loop.loop_id))
        choice = await self.service.engines.select()
        self.send_json(201, loop_view(self.service, loop, choice))

    @operation(
        Operation(
            "listLoops",
            "loops",
            "List your loops, newest first",
            ResponseSpec(
                200,
                "One page.",
                LoopList,
                {
                    "data": [LOOP_EXAMPLE],
                    "first_id": LOOP_EXAMPLE["id"],
                    "last_id": LOOP_EXAMPLE["id"],
                    "has_more": False,
                },
            ),
            description="`after` gives strictly older loops, `before` the page just newer; "
            "not both. `has_more` looks in the direction of travel.",
            parameters=(
                LIMIT,
                Parameter(
                    "after",
                    "query",
                    "Older than this loop.",
                    {"type": "string", "maxLength": 200},
                ),
                Parameter(
                    "before",
                    "query",
                    "Newer than this loop.",
                    {"type": "string", "maxLength": 200},
                ),
                Parameter(
                    "archived",
                    "query",
                    "`true` includes archived loops.",
                    {"type": "boolean", "default": False},
                ),
            ),
            errors=("invalid_parameter", "invalid_cursor"),
        )
    )
    async def get(self) -> None:
        self.refuse_oversized()
        query = self.read_query(LoopsQuery)
        if query.after is not None and query.before is not None:
            raise InvalidCursor("Page with after or with before, not with both.")
        page = await self.service.page(
            self.caller.name,
            limit=query.limit,
            after=query.after,
            before=query.before,
            archived=query.archived,
        )
        choice = await self.service.engines.select()
        data = [loop_view(self.service, loop, choice) for loop in page.loops]
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
    @operation(
        Operation(
            "getLoop",
            "loops",
            "Look at a loop and what it is doing",
            ResponseSpec(200, "The loop.", LoopObject, IDLE_EXAMPLE),
            parameters=(LOOP_ID,),
            errors=("not_loop_owner", "loop_not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        choice = await self.service.engines.select()
        self.send_json(200, loop_view(self.service, loop, choice, await self.service.state(loop)))

    @operation(
        Operation(
            "archiveLoop",
            "loops",
            "Archive a loop",
            ResponseSpec(204, "Archived (also when it was before)."),
            description="A running turn is interrupted, queued ones are cancelled, the sandbox is "
            "stopped. The record, its events and its files stay.",
            parameters=(LOOP_ID,),
            errors=("not_loop_owner", "loop_not_found"),
        )
    )
    async def delete(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.archive(loop)
        self.send_json(204)
