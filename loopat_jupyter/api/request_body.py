"""Parse a request's JSON without blocking the event loop.

The fast parsers hold the interpreter's lock until they are done: 8 MiB of small items would freeze
every kernel's websocket in the server for a second. So only small bodies are parsed at once; a
large one goes through Python's own, interruptible, decoder in a thread.
"""

from __future__ import annotations

import asyncio
import json
import json.decoder
import json.scanner
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pydantic_core

from .errors import InvalidJson

MAX_CONCURRENT_PARSES = 64 << 10
"""Bytes that are parsed on the event loop."""

_PARSER = ThreadPoolExecutor(1, thread_name_prefix="loopat-json")


class PurePythonJsonDecoder(json.JSONDecoder):
    """The standard library's decoder without its C scanner."""

    def __init__(self) -> None:
        super().__init__(parse_constant=_refuse_constant)
        self.parse_string = json.decoder.py_scanstring  # type: ignore[attr-defined]
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_interruptibly(body: bytes) -> Any:
    text = body.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("it begins with a byte order mark")
    return PurePythonJsonDecoder().decode(text)


async def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``. Raises ``InvalidJson``."""
    try:
        if len(body) <= MAX_CONCURRENT_PARSES:
            value = pydantic_core.from_json(body, allow_inf_nan=False)
        else:
            # One at a time: several would fight for the interpreter with everything else.
            loop = asyncio.get_running_loop()
            value = await loop.run_in_executor(_PARSER, _parse_interruptibly, body)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidJson("The body must be a JSON object.")
    return value
