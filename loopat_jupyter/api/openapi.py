"""The OpenAPI 3.1 document: ``openapi.yaml``, completed from the models and the table of errors.

The file says what no code decides: summaries, parameters, examples, the errors that are an
operation's own, and the schemas that no model has (events, transcripts). From the code come the
schemas of the pydantic models that validate requests and make responses, the status and type of an
error code, the errors that any operation can have, and the address of the server. Tests hold the
file equal to the router.
"""

from __future__ import annotations

import json
from functools import partial
from importlib import resources
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from . import schemas
from .errors import STATUS, TYPES, error_body

REFERENCE = "#/components/schemas/{model}"

MODELS: tuple[type[BaseModel], ...] = (
    schemas.ApiTokenCreated,
    schemas.ApiTokenList,
    schemas.ChoiceAnswer,
    schemas.CreateLoop,
    schemas.CreateToken,
    schemas.FileList,
    schemas.FileReceivedView,
    schemas.LoopList,
    schemas.MessageList,
    schemas.NetworkList,
    schemas.RuleList,
    schemas.SendMessage,
)
"""The models that the operations refer to; those they are made of follow."""

ANY_CREDENTIALS: list[dict[str, Any]] = [{"BearerAuth": []}, {"CookieAuth": []}]

RETRY_AFTER = {
    "description": "Seconds to wait before the next try.",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
    "example": 2,
}


def read_source() -> dict[str, Any]:
    """``openapi.yaml`` as it is, with the parts that are not served."""
    text = resources.files(__package__).joinpath("openapi.yaml").read_text("utf-8")
    # The loader in C takes 5 ms for the file and the one in Python 90; not every build has the C.
    source: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return source


def build(server: str) -> dict[str, Any]:
    """The document of the API at the path ``server``."""
    source = read_source()
    document = {name: value for name, value in source.items() if not name.startswith("x-")}
    document["servers"][0]["url"] = server
    document["components"]["schemas"] = _component_schemas(source)
    for item in document["paths"].values():
        for method, operation in item.items():
            security = operation.setdefault("security", ANY_CREDENTIALS)
            codes = _implied_errors(method, security) | set(operation.pop("x-errors", ()))
            operation["responses"] |= _error_responses(codes, source)
    return document


def _implied_errors(method: str, security: list[dict[str, Any]]) -> set[str]:
    """The codes of what is checked before a handler runs, and of what can fail in any."""
    codes = {"forbidden", "internal"}
    if security:
        codes.add("missing_credentials")
        if method != "get":
            codes |= {"xsrf_failed", "body_too_large"}
    if security == ANY_CREDENTIALS:
        codes |= {"invalid_token", "too_many_requests"}
    return codes


def _error_responses(codes: set[str], source: dict[str, Any]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code, status in STATUS.items():
        if code in codes:
            by_status.setdefault(status, []).append(code)
    return {str(s): _error_response(s, found, source) for s, found in sorted(by_status.items())}


def _error_response(status: int, codes: list[str], source: dict[str, Any]) -> dict[str, Any]:
    meaning, messages = source["x-error-statuses"][status], source["x-error-messages"]
    listed = ", ".join(f"`{code}`" for code in codes)
    response: dict[str, Any] = {"description": f"{meaning} Codes: {listed}."}
    if status in (429, 503):
        response["headers"] = {"Retry-After": RETRY_AFTER}
    response["content"] = {
        "application/json": {
            "schema": {"$ref": REFERENCE.format(model="Error")},
            "examples": {code: {"value": error_body(code, messages[code])} for code in codes},
        }
    }
    return response


class _SchemaGenerator(GenerateJsonSchema):
    """Without the titles of fields, which only repeat their names, and without ``null`` as a
    default: such a field is absent where there is nothing to say."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        generated = super().default_schema(schema)
        if generated.get("default", ...) is None:
            del generated["default"]
        return generated


def _component_schemas(source: dict[str, Any]) -> dict[str, Any]:
    """The schemas of the file, and those of the models."""
    components: dict[str, Any] = source["components"]["schemas"]
    detail = components["ErrorDetail"]["properties"]
    detail["type"]["enum"] = sorted(set(TYPES.values()))
    detail["code"]["enum"] = list(STATUS)
    connection_events = source["x-connection-events"]
    components["StreamEvent"]["oneOf"] = [
        _event_lines(name, component, stored=name not in connection_events)
        for name, component in source["x-events"].items()
    ]
    components |= _generated_schemas()
    for name, schema in components.items():
        schema.setdefault("title", name)
    return dict(sorted(components.items()))


def _event_lines(name: str, component: str, *, stored: bool) -> dict[str, Any]:
    """One event as a reader of server-sent events gives it: its lines, ``data`` with JSON in it.
    The form is that of OpenAPI 3.2 for such streams."""
    properties: dict[str, Any] = {
        "event": {"const": name},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": REFERENCE.format(model=component)},
        },
    }
    if stored:
        properties["id"] = {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "The sequence number: without gaps in a loop.",
        }
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
    }


def _generated_schemas() -> dict[str, Any]:
    """The schema of every model, by the component's name: the model's title, which is its class's
    name unless the model declares another."""
    generated: dict[str, Any] = models_json_schema(
        [(model, "validation") for model in MODELS],
        ref_template=REFERENCE,
        schema_generator=_SchemaGenerator,
    )[1]["$defs"]
    names = {
        REFERENCE.format(model=name): REFERENCE.format(model=schema["title"])
        for name, schema in generated.items()
    }
    renamed = json.loads(json.dumps(generated), object_hook=partial(_rename, names))
    for schema in renamed.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return {schema["title"]: schema for schema in renamed.values()}


def _rename(names: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
    reference = value.get("$ref")
    return value if reference is None else {**value, "$ref": names[reference]}
