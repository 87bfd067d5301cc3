"""``/loops/{id}/transcript``: a loop's turns as a document.

A turn at a time is read, rendered in a thread, and sent when the connection has taken the last one:
so the longest loop needs no more memory than its longest turn, and nothing waits for it.
"""

from __future__ import annotations

import asyncio

from tornado.iostream import StreamClosedError

from ..loops.errors import InvalidParameter
from ..loops.models import LoopRecord
from ..loops.transcript_source import StoredTurn, TranscriptStream
from ..transcript.json import JsonRenderer
from ..transcript.markdown import MarkdownRenderer
from ..transcript.notebook import NotebookRenderer
from ..transcript.redaction import Redactor
from ..transcript.turn import Header, Renderer, TranscriptTurn, build_turn
from .handler import LoopatHandler
from .operations import Operation, Parameter, ResponseSpec, operation
from .parameters import LOOP_ID
from .transcript_schemas import LAST_LIMIT, TranscriptQuery, TranscriptView

RENDERERS: dict[str, type[Renderer]] = {
    "json": JsonRenderer,
    "md": MarkdownRenderer,
    "ipynb": NotebookRenderer,
}
"""By the name of the format in the API."""

_TURN = "turn_00112233445566778899"
_EXAMPLE = {
    "version": 1,
    "loop_id": "loop_2f1c7f6e-6d0a-4d0e-9a3b-0d8f0c5a1b2c",
    "title": "Tidy the data folder",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "archived": False,
    "seq": 5,
    "turns": [
        {
            "turn_id": _TURN,
            "status": "done",
            "created_at": "2026-01-31T12:00:00.000000Z",
            "started_at": "2026-01-31T12:00:00.010000Z",
            "ended_at": "2026-01-31T12:00:02.000000Z",
            "engine": "builtin",
            "message": "How many rows?",
            "usage": None,
            "error": None,
            "parts": [
                {
                    "type": "tool",
                    "tool_use_id": "call_1",
                    "tool": "Bash",
                    "input": {"command": "wc -l data.csv"},
                    "ok": True,
                    "result": "1280 data.csv",
                },
                {"type": "text", "text": "There are 1280."},
            ],
        }
    ],
}
_MARKDOWN_EXAMPLE = "# Tidy the data folder\n\n## Turn 1\n\n> How many rows?\n"
_NOTEBOOK_EXAMPLE = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}


def _render(renderer: Renderer, stored: StoredTurn, redactor: Redactor) -> str:
    turn = TranscriptTurn(
        turn_id=stored.turn_id,
        status=stored.status,
        created_at=stored.created_at,
        started_at=stored.started_at,
        ended_at=stored.ended_at,
        engine=stored.engine,
        message=stored.content,
        usage=stored.usage,
    )
    return renderer.turn(build_turn(turn, stored.events, redactor))


class TranscriptHandler(LoopatHandler):
    @operation(
        Operation(
            "getTranscript",
            "messages",
            "Export the loop's transcript as a document",
            ResponseSpec(
                200,
                "The document, up to the loop's newest event. Tokens and paths of the host are "
                "left out.",
                TranscriptView,
                _EXAMPLE,
                JsonRenderer.media_type,
                others={
                    MarkdownRenderer.media_type: _MARKDOWN_EXAMPLE,
                    NotebookRenderer.media_type: _NOTEBOOK_EXAMPLE,
                },
            ),
            parameters=(
                LOOP_ID,
                Parameter(
                    "format",
                    "query",
                    "`json` for programs, `md` for people, `ipynb` for Jupyter.",
                    {"type": "string", "enum": list(RENDERERS), "default": "json"},
                    "ipynb",
                ),
                Parameter(
                    "turn",
                    "query",
                    "This turn alone.",
                    {"type": "string", "maxLength": 200},
                    _TURN,
                ),
                Parameter(
                    "last",
                    "query",
                    "Only so many turns, the newest. Not with `turn`.",
                    {"type": "integer", "minimum": 1, "maximum": LAST_LIMIT},
                    10,
                ),
            ),
            errors=("invalid_parameter", "not_loop_owner", "loop_not_found", "not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(TranscriptQuery)
        if query.turn is not None and query.last is not None:
            raise InvalidParameter("Ask for one turn, or for the last ones, not for both.")
        stream = await self.service.read_transcript(loop, turn_id=query.turn, last=query.last)
        self._open(loop, query.format)
        try:
            await self._send(RENDERERS[query.format](), loop, stream)
        except StreamClosedError:
            return
        except Exception:
            if not self._headers_written:
                raise
            self.log.exception("loopat: writing a transcript failed")
            self.abort_connection()
            return
        await self.finish(set_content_type=self._kind)

    def _open(self, loop: LoopRecord, wanted: str) -> None:
        media_type = RENDERERS[wanted].media_type
        self._kind = f"{media_type}; charset=utf-8" if wanted == "md" else media_type
        self.set_header("Content-Type", self._kind)
        self.set_header("Cache-Control", "no-store")
        if wanted != "json":
            self.set_header(
                "Content-Disposition", f'attachment; filename="{loop.loop_id}.{wanted}"'
            )

    async def _send(self, renderer: Renderer, loop: LoopRecord, stream: TranscriptStream) -> None:
        redactor = Redactor(stream.places)
        head = Header(
            loop_id=loop.loop_id,
            title=redactor.redact_text(loop.title),
            created_at=loop.created_at,
            archived=loop.archived,
            seq=stream.seq,
        )
        self.write(renderer.head(head))
        async for turn in stream.turns:
            self.write(await asyncio.to_thread(_render, renderer, turn, redactor))
            await self.flush()
        self.write(renderer.tail())
