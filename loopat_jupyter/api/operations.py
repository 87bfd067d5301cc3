"""What a route promises, said once: :func:`operation` ties it to the handler's method.

The edge reads it to decide who may call (``credentials``), the OpenAPI document is generated from
it, and a test compares both with the router. There is no second list of routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

Credentials = Literal["any", "session", "none"]
M = TypeVar("M", bound=Callable[..., Any])

ATTRIBUTE = "__loopat_operation__"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path, query or header parameter. ``schema`` is JSON Schema."""

    name: str
    where: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any]
    example: Any = None


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A success response. ``model`` ``None``: no body, or ``media_type`` other than JSON.

    ``others`` are further media types it may come in, each with an example.
    """

    status: int
    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    media_type: str = "application/json"
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BinaryBody:
    """A request body that is taken as it comes."""

    description: str
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. ``errors`` are codes; those any route can answer are implied."""

    operation_id: str
    tag: str
    summary: str
    answer: ResponseSpec
    description: str = ""
    credentials: Credentials = "any"
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | BinaryBody | None = None
    body_required: bool = True
    body_example: Any = None
    errors: tuple[str, ...] = ()
    extensions: Mapping[str, Any] = field(default_factory=dict)


def operation(promise: Operation) -> Callable[[M], M]:
    """Mark a handler's verb with what it promises."""

    def mark(method: M) -> M:
        setattr(method, ATTRIBUTE, promise)
        return method

    return mark


def operation_of(handler: object, method: str) -> Operation | None:
    """The promise of a handler's verb (``"GET"`` …), ``None`` where it has none."""
    found = getattr(getattr(handler, method.lower(), None), ATTRIBUTE, None)
    return found if isinstance(found, Operation) else None
