"""The OpenAPI 3.1 document, generated from the routes and from what their verbs promise.

There is no second description of the API: paths come from the router's table, parameters, bodies
and answers from each verb's :class:`~.operations.Operation`, schemas from the models that validate.
What every route can answer (no credentials, a refused Host, too many requests …) is said here once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from .components import REFERENCE, SECURITY_SCHEMES, component_name, schemas
from .error_examples import error_example
from .errors import STATUS
from .event_schemas import STREAM_EVENT
from .handler import LoopatHandler
from .operations import BinaryBody, Credentials, Operation, Parameter, operation_of

Routes = Sequence[tuple[str, type[LoopatHandler]]]

TITLE = "Loopat Loop API"
VERSION = "1.0.0"

INTERNAL = "x-internal"
"""Extension of an operation that is part of another one (the page's files), not of the contract."""

DESCRIPTION = """\
A **loop** is an AI agent with its context and its working directory in one sandbox; it lives in \
this Jupyter server. Send it a message and watch the **turn** stream in; the turn runs to its end \
whether or not anybody is connected. Where the agent needs a person it makes a **choice**, which \
waits as long as it has to.

JSON in UTF-8, `snake_case` fields, RFC 3339 times in UTC. Texts hold no NUL character. In a \
request an optional field that is `null` counts as absent, and unknown fields are ignored.

**Errors.** Every response with a status of 400 or more is an `Error`. Checked in this order: \
credentials, existence, ownership, state, body. An address that is none answers 404 `not_found`, a \
method that an address does not take 405 `method_not_allowed` with an `Allow` header; both are 401 \
without credentials.

**Streams.** `text/event-stream`: each event has an `event:` line with its name, one `data:` line \
of JSON, and, where it is stored, an `id:` line with its sequence number, which is the cursor to \
resume from. `StreamEvent` lists them all. Send `Accept: text/event-stream`.
"""

TAGS = (
    ("loops", "Context, agent and working directory in one sandbox. Archived, never deleted."),
    ("messages", "Send a message, watch its turn, read the conversation, interrupt."),
    ("files", "What goes in and out of a loop's working directory."),
    ("choices", "Answer what the agent asks; what it need not ask again."),
    ("tokens", "API tokens for programs; made and revoked in a browser session only."),
    ("documents", "This document and its reference page. No credentials."),
)

SECURITY: dict[Credentials, list[dict[str, list[str]]]] = {
    "any": [{"BearerAuth": []}, {"CookieAuth": []}],
    "session": [{"CookieAuth": []}],
    "none": [],
}

RETRY_AFTER = {
    "description": "Seconds to wait before the next try.",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
    "example": 2,
}

STATUS_WORDS = {
    400: "The request is wrong; sending it again unchanged cannot help.",
    401: "No credentials, or none that are valid here.",
    403: "The credentials do not allow this.",
    404: "There is no such thing, or not for this caller.",
    409: "The request contradicts an earlier one.",
    413: "The body is over 8 MiB, or the file over the administrator's limit.",
    429: "This token is over its rate; nothing was done.",
    500: "Something unexpected failed in the server; nothing was acknowledged.",
    503: "The server has all the work it will take; nothing was done.",
}


def build(routes: Routes, server: str) -> dict[str, Any]:
    """The document of the API at the path ``server``."""
    promises = list(operations(routes))
    paths: dict[str, Any] = {}
    for path, method, promise in promises:
        paths.setdefault(path, {})[method.lower()] = _operation(method, promise)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "summary": "AI-agent loops that live in a Jupyter server.",
            "description": DESCRIPTION,
            "license": {"name": "BSD 3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": server, "description": "This Jupyter server."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS],
        "paths": paths,
        "components": {
            "schemas": schemas(_models(promise for _, _, promise in promises)),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def operations(routes: Routes) -> Iterator[tuple[str, str, Operation]]:
    """Path, method and promise of every operation of the contract."""
    for path, handler in routes:
        for method in handler.SUPPORTED_METHODS:
            promise = operation_of(handler, method)
            if promise is not None and not promise.extensions.get(INTERNAL):
                yield path, method, promise


def error_codes(method: str, promise: Operation) -> list[str]:
    """Every error code the operation can answer with, its own and those implied."""
    codes = {*promise.errors, "forbidden", "internal"}
    if promise.credentials != "none":
        codes.add("missing_credentials")
        if method != "GET":
            codes |= {"xsrf_failed", "body_too_large"}
    if promise.credentials == "any":
        codes |= {"invalid_token", "too_many_requests"}
    return [code for code in STATUS if code in codes]


def _models(promises: Iterable[Operation]) -> Iterator[type[BaseModel]]:
    for promise in promises:
        if promise.body is not None and not isinstance(promise.body, BinaryBody):
            yield promise.body
        if promise.answer.model is not None:
            yield promise.answer.model


def _operation(method: str, promise: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": promise.operation_id,
        "tags": [promise.tag],
        "summary": promise.summary,
    }
    if promise.description:
        described["description"] = promise.description
    if promise.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in promise.parameters]
    if promise.body is not None:
        described["requestBody"] = _body(promise)
    described["responses"] = {str(promise.answer.status): _answer(promise)} | _errors(
        method, promise
    )
    described["security"] = SECURITY[promise.credentials]
    return described | dict(promise.extensions)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "required": parameter.where == "path",
        "schema": dict(parameter.schema),
    }
    if parameter.example is None:
        return described
    if parameter.where == "path":
        described["example"] = parameter.example
    else:  # a reference page fills `example` in for everybody, and this one can be left out
        described["schema"]["examples"] = [parameter.example]
    return described


def _body(promise: Operation) -> dict[str, Any]:
    assert promise.body is not None
    if isinstance(promise.body, BinaryBody):
        bytes_: dict[str, Any] = {"schema": {"type": "string"}, "example": promise.body.example}
        return {
            "description": promise.body.description,
            "required": False,  # a file may be empty
            "content": {"application/octet-stream": bytes_},
        }
    content: dict[str, Any] = {"schema": _reference(component_name(promise.body))}
    if promise.body_example is not None:
        content["example"] = promise.body_example
    return {"required": promise.body_required, "content": {"application/json": content}}


def _answer(promise: Operation) -> dict[str, Any]:
    answer = promise.answer
    described: dict[str, Any] = {"description": answer.description}
    if answer.model is not None:
        content: dict[str, Any] = {"schema": _reference(component_name(answer.model))}
    elif answer.media_type == "text/event-stream":
        content = {"schema": _stream()}
    elif answer.media_type != "application/json":
        content = {"schema": {"type": "string"}}
    else:
        return described
    if answer.example is not None:
        content["example"] = answer.example
    described["content"] = {answer.media_type: content} | {
        kind: {
            "schema": {"type": "object" if isinstance(example, dict) else "string"},
            "example": example,
        }
        for kind, example in answer.others.items()
    }
    return described


def _stream() -> dict[str, Any]:
    """OpenAPI 3.1 has no word for a sequence of events: the body is one text, and taken apart it
    is many ``StreamEvent``s."""
    return {
        "description": "Server-sent events: the text of them all, each of them a `StreamEvent`.",
        "anyOf": [{"type": "string"}, _reference(STREAM_EVENT)],
    }


def _errors(method: str, promise: Operation) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in error_codes(method, promise):
        by_status.setdefault(STATUS[code], []).append(code)
    return {str(status): _error(status, codes) for status, codes in sorted(by_status.items())}


def _error(status: int, codes: list[str]) -> dict[str, Any]:
    listed = ", ".join(f"`{code}`" for code in codes)
    described: dict[str, Any] = {"description": f"{STATUS_WORDS[status]} Codes: {listed}."}
    if status in (429, 503):
        described["headers"] = {"Retry-After": RETRY_AFTER}
    described["content"] = {
        "application/json": {
            "schema": _reference("Error"),
            "examples": {code: {"value": error_example(code)} for code in codes},
        }
    }
    return described


def _reference(name: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=name)}
