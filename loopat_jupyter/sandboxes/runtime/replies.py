"""Answers of a sandbox's supervisor, as the server reads them: checked, not trusted."""

from __future__ import annotations

import json
from typing import Any

from loopat_jupyter.loops.ports.sandbox import FileError


def parse_file_reply(data: bytes, end: dict[str, Any]) -> dict[str, Any]:
    """The result of a file operation; what came is checked, not trusted."""
    if "error" in end:
        raise FileError(str(end["error"])[:2000])
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise FileError("The file operation was cut off.") from None
    if not isinstance(answer, dict):
        raise FileError("The file operation gave no answer.")
    if "error" in answer:
        raise FileError(str(answer["error"])[:2000])
    return answer
