"""``/loops/{id}/files``: list, read and write what lies in a loop's workdir.

What comes out was made by an agent, and the address is one of the Jupyter server's: so a browser
must never show it. It is sent as an attachment of an opaque type, and sandboxed should that be
ignored.
"""

from __future__ import annotations

from urllib.parse import quote

from tornado.iostream import StreamClosedError

from ..loops.ports.files import FileEntry
from .file_schemas import SIZE_LIMIT, FileList, FileReceivedView, FilesQuery, FileView, PutQuery
from .handler import LoopatHandler
from .operations import BinaryBody, Operation, Parameter, ResponseSpec, operation
from .parameters import LIMIT, LOOP_ID

CONTENT_TYPE = "application/octet-stream"

PATH = Parameter(
    "path",
    "path",
    "The file, from the workdir on. Slashes as they are, or as `%2F`.",
    {"type": "string", "maxLength": 4096},
    "results/table.csv",
)
FILE_EXAMPLE = {
    "name": "table.csv",
    "path": "results/table.csv",
    "type": "file",
    "size": 1280,
    "modified": "2026-01-31T12:00:00.000000Z",
}


def file_view(entry: FileEntry) -> FileView:
    return FileView(
        name=entry.name,
        path=entry.path,
        type=entry.type,
        size=entry.size,
        modified=entry.modified,
    )


class FilesHandler(LoopatHandler):
    @operation(
        Operation(
            "listFiles",
            "files",
            "List a directory of the loop's workdir",
            ResponseSpec(
                200,
                "One page of names.",
                FileList,
                {
                    "path": "results",
                    "data": [FILE_EXAMPLE],
                    "has_more": False,
                    "last_id": "table.csv",
                    "truncated": False,
                },
            ),
            description="Works whether or not a sandbox runs, also for an archived loop. Symlinks "
            "are listed and not followed.",
            parameters=(
                LOOP_ID,
                Parameter(
                    "path",
                    "query",
                    "The directory, from the workdir on; absent: the workdir itself.",
                    {"type": "string", "maxLength": 4096},
                    "results",
                ),
                LIMIT,
                Parameter(
                    "after",
                    "query",
                    "The `last_id` of a page.",
                    {"type": "string", "maxLength": 800},
                ),
            ),
            errors=(
                "invalid_parameter",
                "invalid_cursor",
                "not_loop_owner",
                "loop_not_found",
                "not_found",
            ),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        query = self.read_query(FilesQuery)
        page = await self.service.files.list(loop, query.path, limit=query.limit, after=query.after)
        self.send_json(
            200,
            FileList(
                path=query.path,
                data=[file_view(entry) for entry in page.entries],
                has_more=page.has_more,
                last_id=page.last_id,
                truncated=page.truncated,
            ),
        )


class FileHandler(LoopatHandler):
    @operation(
        Operation(
            "getFile",
            "files",
            "Read a file of the loop's workdir",
            ResponseSpec(
                200,
                "Its bytes, as an attachment.",
                example="name,rows\nmeasures,1280\n",
                media_type=CONTENT_TYPE,
            ),
            description="Works whether or not a sandbox runs, also for an archived loop. Only "
            "regular files, no symlinks; one over the administrator's limit is "
            "`content_too_large`. A file that shrinks while it is sent ends with a cut connection.",
            parameters=(LOOP_ID, PATH),
            errors=(
                "invalid_parameter",
                "not_loop_owner",
                "loop_not_found",
                "not_found",
                "content_too_large",
            ),
        )
    )
    async def get(self, loop_id: str, path: str) -> None:
        loop = await self.owned_loop(loop_id)
        async with self.service.files.open(loop, path) as file:
            self.set_header("Content-Type", CONTENT_TYPE)
            self.set_header("Content-Length", str(file.size))
            self.set_header("Content-Disposition", _attachment(file.name))
            self.set_header("Content-Security-Policy", "sandbox; default-src 'none'")
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cross-Origin-Resource-Policy", "same-origin")
            self.set_header("Cache-Control", "no-store")
            sent = 0
            try:
                async for chunk in file.chunks():
                    self.write(chunk)
                    await self.flush()
                    sent += len(chunk)
            except StreamClosedError:
                return
            except OSError:
                self.log.warning("loopat: a file could not be read to its end", exc_info=True)
            if sent < file.size:
                self.abort_connection()
                return
            await self.finish(set_content_type=CONTENT_TYPE)

    @operation(
        Operation(
            "putFile",
            "files",
            "Write a file of the loop's workdir",
            ResponseSpec(
                200,
                "What there is of it now.",
                FileReceivedView,
                {
                    "path": "results/table.csv",
                    "received": 1280,
                    "size": 1280,
                    "complete": True,
                    "file": FILE_EXAMPLE,
                },
            ),
            description="The body is the file. It appears whole, replaces another as a whole, and "
            "directories on the way are made. What is over 8 MiB goes in parts, in order, each "
            "with `upload`, `offset` and `size`; the file appears with the last one. A part may be "
            "sent again: what was received from its offset on is dropped. Unfinished uploads are "
            "kept for a day.",
            parameters=(
                LOOP_ID,
                PATH,
                Parameter(
                    "upload",
                    "query",
                    "An id that you make up for this upload; the same in all its parts.",
                    {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9_-]{1,64}$"},
                    "8c1f0f6d2b",
                ),
                Parameter(
                    "offset",
                    "query",
                    "Where this part begins, in bytes.",
                    {"type": "integer", "minimum": 0, "maximum": SIZE_LIMIT},
                    0,
                ),
                Parameter(
                    "size",
                    "query",
                    "How many bytes the whole file has.",
                    {"type": "integer", "minimum": 0, "maximum": SIZE_LIMIT},
                    20_000_000,
                ),
            ),
            body=BinaryBody("The file, or a part of it: any bytes, at most 8 MiB.", "name,rows\n"),
            errors=(
                "invalid_parameter",
                "loop_archived",
                "not_loop_owner",
                "loop_not_found",
                "not_found",
            ),
        )
    )
    async def put(self, loop_id: str, path: str) -> None:
        loop = await self.owned_loop(loop_id)
        self.service.refuse_archived(loop)
        part = self.read_query(PutQuery).part()
        got = await self.service.files.put(loop, path, self.read_bytes(), part)
        self.send_json(
            200,
            FileReceivedView(
                path=path,
                received=got.received,
                size=got.size,
                complete=got.file is not None,
                file=None if got.file is None else file_view(got.file),
            ),
        )


def _attachment(name: str) -> str:
    """``Content-Disposition`` of a name that an agent chose (RFC 6266)."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
