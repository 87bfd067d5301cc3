"""``/loops/{id}/transcript``: export a loop's turns as one document (JSON, Markdown, notebook).

One turn at a time is read, rendered in a thread, and sent when the connection has taken the one
before: so the longest loop needs no more memory than its longest turn, and no other request waits.
"""

from __future__ import annotations

import asyncio

from tornado.iostream import StreamClosedError

from ..loops.errors import InvalidParameter
from ..loops.models import LoopRecord
from ..loops.transcript_source import StoredTurn, TranscriptStream
from ..transcript import RENDERERS, Header, Redactor, Renderer, build_turn
from ..transcript.json import MEDIA_TYPE as JSON
from ..transcript.markdown import MEDIA_TYPE as MARKDOWN
from ..transcript.notebook import MEDIA_TYPE as NOTEBOOK
from .handler import LoopatHandler
from .schemas import TranscriptQuery

MEDIA_TYPES = {"json": JSON, "md": MARKDOWN, "ipynb": NOTEBOOK}


def _render(renderer: Renderer, turn: StoredTurn, redactor: Redactor) -> str:
    return renderer.turn(build_turn(turn, redactor))


class TranscriptHandler(LoopatHandler):
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(TranscriptQuery)
        if query.turn is not None and query.last is not None:
            raise InvalidParameter("Give turn or last, not both.")
        transcript = await self.service.read_transcript(loop, turn_id=query.turn, last=query.last)
        self._set_headers(loop, query.format)
        try:
            await self._write_document(RENDERERS[query.format](), loop, transcript)
        except StreamClosedError:
            return
        except Exception:
            if not self._headers_written:
                raise
            self.log.exception("loopat: a transcript broke off")
            self.abort_connection()
            return
        await self.finish(set_content_type=self._content_type)

    def _set_headers(self, loop: LoopRecord, wanted: str) -> None:
        media_type = MEDIA_TYPES[wanted]
        self._content_type = f"{media_type}; charset=utf-8" if wanted == "md" else media_type
        self.set_header("Content-Type", self._content_type)
        self.set_header("Cache-Control", "no-store")
        if wanted != "json":
            self.set_header(
                "Content-Disposition", f'attachment; filename="{loop.loop_id}.{wanted}"'
            )

    async def _write_document(
        self, renderer: Renderer, loop: LoopRecord, transcript: TranscriptStream
    ) -> None:
        redactor = Redactor(transcript.places)
        header = Header(
            loop_id=loop.loop_id,
            title=redactor.redact_text(loop.title),
            created_at=loop.created_at,
            archived=loop.archived,
            seq=transcript.seq,
        )
        self.write(renderer.head(header))
        async for turn in transcript.turns:
            self.write(await asyncio.to_thread(_render, renderer, turn, redactor))
            await self.flush()
        self.write(renderer.tail())
