"""The components of the OpenAPI document: schemas from the models that validate, security schemes.

The schemas come from pydantic. What its models do in code, and so cannot show, is added here from
the same constants: the limits of :mod:`.schemas`, what is required, and where a value is absent
rather than ``null``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .errors import STATUS, TYPES
from .event_schemas import EVENTS, STREAM_EVENT, stream_event
from .schemas import CONTENT_LIMIT, LABEL_LIMIT, TITLE_LIMIT, Error

REFERENCE = "#/components/schemas/{model}"

ABSENT_NOT_NULL = (
    ("ApiTokenView", "lastUsedAt"),
    ("Loop", "busy"),
    ("Loop", "queue_depth"),
    ("Loop", "turn_count"),
    ("UsageView", "cost_usd"),
    ("SendMessage", "content"),
)
"""Fields that a model gives ``None`` for "not there"."""

REQUEST_BODIES = ("CreateLoop", "CreateToken", "SendMessage", "ChoiceAnswer")
"""In these an optional field that is ``null`` counts as absent."""

SECURITY_SCHEMES: dict[str, Any] = {
    "BearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "la_<48 hex>",
        "description": "An API token, for programs. It may call everything but `/me/tokens`, "
        "and needs neither a cookie nor an XSRF token.",
    },
    "CookieAuth": {
        "type": "apiKey",
        "in": "cookie",
        "name": "username-localhost-8888",
        "description": "A Jupyter session: the login cookie of this server (its name holds the "
        "server's host and port) or of JupyterHub. Methods that change something also need the "
        "header `X-XSRFToken` with the value of the `_xsrf` cookie. A Jupyter server token "
        "(`Authorization: token …`) stands for it, except at `/me/tokens`.",
    },
}


def component_name(model: type[BaseModel]) -> str:
    """The component's name on the wire: the declared title, else the class's name."""
    return model.model_config.get("title") or model.__name__


def _rename_reference(value: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    reference = value.get("$ref")
    return value if reference is None else {**value, "$ref": names[reference]}


def schemas(models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Every schema that the document refers to, by its component's name."""
    wanted: list[type[BaseModel]] = [*models, Error, *EVENTS.values()]
    found: dict[str, Any] = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(wanted)], ref_template=REFERENCE
    )[1]["$defs"]
    names = {
        REFERENCE.format(model=name): REFERENCE.format(model=schema["title"])
        for name, schema in found.items()
    }
    found = json.loads(json.dumps(found), object_hook=partial(_rename_reference, names=names))
    found = {schema["title"]: schema for schema in found.values()}
    for schema in found.values():
        _tidy(schema)
    found["SendMessage"]["required"] = ["content"]
    for component, field in ABSENT_NOT_NULL:
        properties = found[component]["properties"]
        properties[field] = _without_null(properties[field])
    for component in REQUEST_BODIES:
        _accept_null(found[component])
    _add_limits(found)
    found[STREAM_EVENT] = stream_event(REFERENCE)
    return dict(sorted(found.items()))


def _tidy(schema: dict[str, Any]) -> None:
    """Drop generated titles and ``null`` defaults; docstrings become Markdown."""
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].replace("``", "`").split())
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
        if field.get("default", ...) is None:
            del field["default"]


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return field
    rest = {name: value for name, value in field.items() if name != "anyOf"}
    return {**kinds[0], **rest}


def _accept_null(schema: dict[str, Any]) -> None:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        if name in required or "anyOf" in field:
            continue
        outer = {key: field.pop(key) for key in ("description", "default") if key in field}
        schema["properties"][name] = {"anyOf": [field, {"type": "null"}], **outer}


def _add_limits(found: dict[str, Any]) -> None:
    detail = found["ErrorDetail"]["properties"]
    detail["type"]["enum"] = sorted(set(TYPES.values()))
    detail["code"]["enum"] = list(STATUS)
    _first(found["CreateToken"], "label")["maxLength"] = LABEL_LIMIT
    _first(found["CreateLoop"], "title")["maxLength"] = TITLE_LIMIT
    found["SendMessage"]["properties"]["content"] |= {"minLength": 1, "maxLength": CONTENT_LIMIT}
    found["ChoiceAnswer"]["anyOf"] = [{"required": ["allow"]}, {"required": ["answers"]}]


def _first(schema: dict[str, Any], field: str) -> dict[str, Any]:
    """The schema of a field's value that is not ``null``."""
    kind: dict[str, Any] = schema["properties"][field]["anyOf"][0]
    return kind
