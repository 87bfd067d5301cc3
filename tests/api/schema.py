"""Validators of a part of an OpenAPI document, with its references resolved within it."""

import json
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

URI = "urn:document"
STREAM_EVENT = "/components/schemas/StreamEvent"


def escape(part: str) -> str:
    """``part`` as one step of a JSON pointer in a URI fragment."""
    return part.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")


def validator(document: dict[str, Any], pointer: str) -> Draft202012Validator:
    """A validator of the schema at ``pointer``."""
    resource = Resource(contents=document, specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(URI, resource)
    return Draft202012Validator(
        {"$ref": f"{URI}#{pointer}"}, registry=registry, format_checker=FormatChecker()
    )


def fits_stream_event(
    document: dict[str, Any], name: str, seq: int | None, data: dict[str, Any]
) -> bool:
    """Whether an event is as ``StreamEvent`` says, the JSON in its ``data`` line included."""
    lines = {"event": name, "data": json.dumps(data)}
    if seq is not None:
        lines["id"] = str(seq)
    if not validator(document, STREAM_EVENT).is_valid(lines):
        return False
    kinds = document["components"]["schemas"]["StreamEvent"]["oneOf"]
    index = next(i for i, k in enumerate(kinds) if k["properties"]["event"]["const"] == name)
    content = validator(document, f"{STREAM_EVENT}/oneOf/{index}/properties/data/contentSchema")
    return content.is_valid(data)
