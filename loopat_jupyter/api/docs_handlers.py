"""``/openapi.json``, ``/docs`` and its assets: they describe the API and need no credentials.

Everything the page loads is a file of this package, named in :data:`ASSETS`; a name that is not in
that list is 404, so no path ever comes from a request. The page's addresses are relative: it works
under any base URL and behind any proxy.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from jupyter_server.base.handlers import APIHandler
from tornado import web

from .handler import LoopatHandler
from .openapi import build

STATIC = Path(__file__).parent / "static"

PAGE = "docs.html"
ASSETS: dict[str, str] = {
    "docs.css": "docs.css",
    "docs.js": "docs.js",
    "swagger-ui.css": "vendor/swagger-ui/swagger-ui.css",
    "swagger-ui-bundle.js": "vendor/swagger-ui/swagger-ui-bundle.js",
}
"""Name in the address -> file below ``static/``."""

CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
"""Named here: the system's own table of types differs from host to host."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""``'unsafe-inline'`` is for the style attributes that Swagger UI's components set."""


class DocumentHandler(LoopatHandler):
    """Base of the handlers of fixed documents: compressed, and sent again only when changed."""

    credentials = "none"
    _track_activity = False

    async def prepare(self) -> None:  # type: ignore[override]  # see LoopatHandler
        await super().prepare()
        self._transforms = [web.GZipContentEncoding(self.request)]
        self.set_header("Cache-Control", "no-cache")  # ask each time whether the ETag is current


@lru_cache(maxsize=4)
def openapi_json(server: str) -> str:
    """The OpenAPI document of the API at the path ``server``."""
    return json.dumps(build(server), ensure_ascii=False, separators=(",", ":"))


class OpenApiHandler(DocumentHandler):
    compute_etag = web.RequestHandler.compute_etag

    async def get(self) -> None:
        self.finish(await asyncio.to_thread(openapi_json, self.address()))


class StaticDocumentHandler(DocumentHandler, web.StaticFileHandler):
    """Base of the handlers of the package's own files."""

    # An installer may link a package's files into its cache: Tornado would refuse to follow them.
    # No request names a file here, so there is nothing to confine.
    allowed_symlink_directory = "/"
    compute_etag = web.StaticFileHandler.compute_etag
    head = LoopatHandler.head  # type: ignore[assignment]  # refused, as at every address

    def initialize(self, *args: str, **kwargs: str) -> None:  # type: ignore[override]
        super().initialize(*args, path=str(STATIC), **kwargs)
        # Tornado's response to a range beyond the file would lack the contract's error body.
        self.request.headers.pop("Range", None)

    def get_cache_time(self, path: str, modified: datetime | None, mime_type: str) -> int:
        return 0

    def get_content_type(self) -> str:
        return f"{CONTENT_TYPES[Path(str(self.absolute_path)).suffix]}; charset=utf-8"

    def set_extra_headers(self, path: str) -> None:
        self.clear_header("Accept-Ranges")


class DocsHandler(StaticDocumentHandler):
    @property
    def content_security_policy(self) -> str:
        # Not APIHandler's, which bars scripts, but what the administrator may have set.
        inherited: str = super(APIHandler, self).content_security_policy
        return f"{inherited}; {PAGE_POLICY}"

    async def get(self) -> None:  # type: ignore[override]
        await super().get(PAGE)


class DocsAssetHandler(StaticDocumentHandler):
    def is_public(self) -> bool:
        return bool(self.path_args) and self.path_args[0] in ASSETS

    async def get(self, name: str) -> None:  # type: ignore[override]
        if name not in ASSETS:
            raise web.HTTPError(404)
        await super().get(ASSETS[name])
