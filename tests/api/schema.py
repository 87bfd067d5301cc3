"""Validators of a part of an OpenAPI document, with its references resolved within it."""

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

URI = "urn:document"


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
