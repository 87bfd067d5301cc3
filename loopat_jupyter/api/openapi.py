"""The OpenAPI 3.1 document, generated from the routes and what their verbs promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import LoopatHandler
from .operations import operation_of

Routes = Sequence[tuple[str, type[LoopatHandler]]]


def build(routes: Routes, server: str) -> dict[str, Any]:
    """The document of the API at the path ``server``."""
    paths: dict[str, Any] = {}
    for path, handler in routes:
        for method in handler.SUPPORTED_METHODS:
            promise = operation_of(handler, method)
            if promise is not None:
                paths.setdefault(path, {})[method.lower()] = {
                    "operationId": promise.operation_id,
                    "summary": promise.summary,
                    "responses": {
                        str(promise.answer.status): {"description": promise.answer.description}
                    },
                }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Loopat Loop API", "version": "1.0.0"},
        "servers": [{"url": server}],
        "paths": paths,
    }
