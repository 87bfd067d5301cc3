"""``/openapi.json``, ``/docs`` and its assets: they describe the API and need no credentials.

Everything the page loads is a file of this package, named in :data:`ASSETS`; a name that is not in
that list is 404, so no path ever comes from a request. Files are read and compressed once, off the
event loop, and answered with an ETag. The page's addresses are relative: it works under any base
URL and behind any proxy.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from jupyter_server.base.handlers import APIHandler
from pydantic import BaseModel

from ..loops.errors import NotFound
from .handler import LoopatHandler
from .openapi import INTERNAL, TITLE, VERSION, build
from .operations import Operation, Parameter, ResponseSpec, operation


class OpenApiDocument(BaseModel):
    """An OpenAPI 3.1 document."""

    openapi: Literal["3.1.0"]
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    paths: dict[str, Any]
    components: dict[str, Any]


_DOCUMENT_EXAMPLE = {
    "openapi": "3.1.0",
    "info": {"title": TITLE, "version": VERSION},
    "servers": [{"url": "/loopat/api/v1"}],
    "paths": {},
    "components": {},
}

STATIC = resources.files("loopat_jupyter.api") / "static"

ASSETS: dict[str, tuple[str, str]] = {
    "docs.css": ("docs.css", "text/css; charset=utf-8"),
    "docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("vendor/swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (
        "vendor/swagger-ui/swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
}
"""Name in the address -> file below ``static/`` and its content type."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""``'unsafe-inline'`` is for the style attributes that Swagger UI's components set."""


@dataclass(frozen=True, slots=True)
class StaticDocument:
    """A file as it is sent. Only the compressed form is kept; nearly every client takes it."""

    etag: str
    compressed: bytes
    content_type: str


def _document(data: bytes, content_type: str) -> StaticDocument:
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return StaticDocument(etag, gzip.compress(data, 6, mtime=0), content_type)


@lru_cache(maxsize=len(ASSETS))
def asset(name: str) -> StaticDocument:
    """Raises ``NotFound``."""
    if name not in ASSETS:
        raise NotFound("There is nothing at this address.")
    path, content_type = ASSETS[name]
    return _document(STATIC.joinpath(path).read_bytes(), content_type)


@lru_cache(maxsize=1)
def page() -> StaticDocument:
    return _document(STATIC.joinpath("docs.html").read_bytes(), "text/html; charset=utf-8")


@lru_cache(maxsize=4)
def openapi(server: str) -> StaticDocument:
    """The OpenAPI document of the API at the path ``server``."""
    from .routes import ROUTES  # which names the handlers of this module

    text = json.dumps(build(ROUTES, server), ensure_ascii=False, separators=(",", ":"))
    return _document(text.encode(), "application/json")


class StaticDocumentHandler(LoopatHandler):
    """Base of the handlers that answer with a fixed document."""

    _track_activity = False

    async def send(self, make: Callable[[], StaticDocument]) -> None:
        document = await asyncio.to_thread(make)
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("Etag", document.etag)
        if self.check_etag_header():
            self.set_status(304)
            self.finish(set_content_type=document.content_type)
            return
        body = document.compressed
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
        else:
            body = await asyncio.to_thread(gzip.decompress, body)
        self.finish(body, set_content_type=document.content_type)


class OpenApiHandler(StaticDocumentHandler):
    @operation(
        Operation(
            "getOpenApi",
            "documents",
            "This document",
            ResponseSpec(
                200, "The OpenAPI 3.1 document of this server.", OpenApiDocument, _DOCUMENT_EXAMPLE
            ),
            credentials="none",
        )
    )
    async def get(self) -> None:
        await self.send(lambda: openapi(self.address()))


class DocsHandler(StaticDocumentHandler):
    @property
    def content_security_policy(self) -> str:
        # Not APIHandler's, which bars scripts, but what the administrator may have set.
        inherited: str = super(APIHandler, self).content_security_policy
        return f"{inherited}; {PAGE_POLICY}"

    @operation(
        Operation(
            "getDocs",
            "documents",
            "An interactive reference for people",
            ResponseSpec(
                200,
                "A page that loads nothing from elsewhere.",
                example="<!doctype html><title>Loopat Loop API</title>",
                media_type="text/html",
            ),
            credentials="none",
        )
    )
    async def get(self) -> None:
        await self.send(page)


class DocsAssetHandler(StaticDocumentHandler):
    def is_public(self) -> bool:
        return bool(self.path_args) and self.path_args[0] in ASSETS

    @operation(
        Operation(
            "getDocsAsset",
            "documents",
            "A file of the reference page",
            ResponseSpec(200, "The file.", example="body { margin: 0; }", media_type="*/*"),
            credentials="none",
            parameters=(
                Parameter(
                    "name",
                    "path",
                    "The file's name.",
                    {"type": "string", "enum": list(ASSETS)},
                    "docs.css",
                ),
            ),
            errors=("not_found",),
            extensions={INTERNAL: True},
        )
    )
    async def get(self, name: str) -> None:
        await self.send(lambda: asset(name))
