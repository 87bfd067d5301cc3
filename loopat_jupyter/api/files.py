"""``/loops/{id}/files``: list, read and write the files of a loop's workdir.

An agent made these files, and their addresses belong to the Jupyter server's origin: a browser must
never render one. So a file is sent as an attachment of an opaque type, with a ``sandbox`` policy in
case a browser ignores that.
"""

from __future__ import annotations

from urllib.parse import quote

from tornado.iostream import StreamClosedError

from ..loops.errors import LoopArchived
from ..loops.ports.files import FileReader
from .handler import LoopatHandler
from .schemas import FileList, FileReceivedView, FilesQuery, FileView, PutQuery

CONTENT_TYPE = "application/octet-stream"


class FilesHandler(LoopatHandler):
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(FilesQuery)
        page = await self.context.files.list(loop, query.path, limit=query.limit, after=query.after)
        self.send_json(
            200,
            FileList(
                path=query.path,
                data=[FileView.model_validate(entry) for entry in page.entries],
                has_more=page.has_more,
                last_id=page.last_id,
                truncated=page.truncated,
            ),
        )


class FileHandler(LoopatHandler):
    async def get(self, loop_id: str, path: str) -> None:
        loop = await self.owned_loop(loop_id)
        async with self.context.files.open(loop, path) as file:
            self._set_headers(file)
            try:
                sent = await self._write_chunks(file)
            except StreamClosedError:
                return
            if sent < file.size:  # the announced length is not kept: the client has to notice
                self.abort_connection()
                return
            await self.finish(set_content_type=CONTENT_TYPE)

    def _set_headers(self, file: FileReader) -> None:
        self.set_header("Content-Type", CONTENT_TYPE)
        self.set_header("Content-Length", str(file.size))
        self.set_header("Content-Disposition", _attachment(file.name))
        self.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    async def _write_chunks(self, file: FileReader) -> int:
        """Bytes written; fewer than the file's size where it shrank or cannot be read."""
        sent = 0
        try:
            async for chunk in file.chunks():
                self.write(chunk)
                await self.flush()
                sent += len(chunk)
        except StreamClosedError:
            raise
        except OSError:
            self.log.warning("loopat: a file could not be read to its end", exc_info=True)
        return sent

    async def put(self, loop_id: str, path: str) -> None:
        loop = await self.owned_loop(loop_id)
        if loop.archived:
            raise LoopArchived("This loop is archived: its files can be read and not written.")
        part = self.read_query(PutQuery).part()
        progress = await self.context.files.put(loop, path, self.read_bytes(), part)
        self.send_json(
            200,
            FileReceivedView(
                path=path,
                received=progress.received,
                size=progress.size,
                complete=progress.file is not None,
                file=FileView.model_validate(progress.file) if progress.file else None,
            ),
        )


def _attachment(name: str) -> str:
    """``Content-Disposition`` of a name that an agent chose (RFC 6266)."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
