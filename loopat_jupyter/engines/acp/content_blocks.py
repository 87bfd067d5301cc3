"""Content blocks of the protocol as text. What is no text is named, so that its lack is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..tools.outcome import truncate_middle

NO_OUTPUT = "(no output)"
_EXIT_CODES = ("exit", "exit_code", "exitCode")


def block_text(block: Any) -> str:
    """The text of one content block."""
    if not isinstance(block, Mapping):
        return ""
    kind = block.get("type")
    if kind == "text":
        return _string(block.get("text"))
    if kind == "resource_link":
        return f"{_string(block.get('name'))} ({_string(block.get('uri'))})"
    if kind == "resource":
        resource = block.get("resource")
        text = resource.get("text") if isinstance(resource, Mapping) else None
        if isinstance(text, str):
            return text
    label = {"image": "an image", "audio": "a sound", "resource": "a file"}.get(str(kind))
    mime = _string(block.get("mimeType"))
    return f"({label or 'something'} was left out here{f': {mime}' if mime else ''})"


def diffs_of(content: Any) -> Iterator[Mapping[str, Any]]:
    """The file changes in a tool call's content."""
    for item in _items(content):
        if item.get("type") == "diff" and isinstance(item.get("path"), str):
            yield item


def result_text(content: Any, output: Any) -> str:
    """A tool's result, from the call's content, else from its raw output."""
    parts = []
    for item in _items(content):
        if item.get("type") == "content":
            parts.append(block_text(item.get("content")))
        elif item.get("type") == "terminal":
            parts.append("(the output of a terminal was left out here)")
    parts = parts or [f"Changed {diff['path']}" for diff in diffs_of(content)]
    text = "\n".join(filter(None, parts)) or _output_text(output)
    return truncate_middle(text.strip("\n")) or NO_OUTPUT


def exit_code(output: Any) -> int | None:
    """The exit code of a command, where the call's raw output has one."""
    if not isinstance(output, Mapping):
        return None
    for fields in (output, output.get("metadata")):
        if not isinstance(fields, Mapping):
            continue
        for code in (fields.get(name) for name in _EXIT_CODES):
            if isinstance(code, int) and not isinstance(code, bool):
                return code
    return None


def _output_text(output: Any) -> str:
    if isinstance(output, str):
        return output
    if not isinstance(output, Mapping) or not output:
        return ""
    for name in ("output", "formatted_output", "stdout", "error"):
        if isinstance(output.get(name), str) and output[name]:
            return str(output[name])
    return json.dumps(output, ensure_ascii=False)


def _items(content: Any) -> Iterator[Mapping[str, Any]]:
    yield from (
        (item for item in content if isinstance(item, Mapping)) if isinstance(content, list) else ()
    )


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
