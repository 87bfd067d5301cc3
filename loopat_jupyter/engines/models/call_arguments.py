"""The input of a tool call, from whatever a model or its server made of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

INVALID_JSON = "INVALID_JSON"
"""The member under which an input that is no JSON object is sent back: APIs insist on one."""


def parse_arguments(value: object) -> Mapping[str, Any] | str:
    """The input as an object; the text as it came where it is none. Nothing means no input.

    JSON inside of a JSON string is read once more: some servers encode twice.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if value is None:
        return {}
    text = value if isinstance(value, str) else json.dumps(value)
    if not text.strip():
        return {}
    parsed = _parse(text)
    if isinstance(parsed, str):
        parsed = _parse(parsed)
    if parsed is None and text.strip() == "null":
        return {}
    return parsed if isinstance(parsed, dict) else text


def is_whole(text: str) -> bool:
    """Whether ``text`` is one complete JSON object, so that nothing more can belong to it."""
    stripped = text.strip()
    return stripped.endswith("}") and isinstance(_parse(stripped), dict)


def as_object(sent: Mapping[str, Any] | str) -> dict[str, Any]:
    """The input as it is sent back to a provider."""
    return {INVALID_JSON: sent} if isinstance(sent, str) else dict(sent)


def _parse(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, strict=False)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(constant: str) -> None:
    """``NaN`` and the infinities are Python's, not JSON's."""
    raise ValueError(constant)


def _finite(digits: str) -> float:
    """``1e999`` is JSON and no number that could be stored."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value
