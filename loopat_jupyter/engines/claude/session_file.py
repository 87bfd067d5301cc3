"""Reads and repairs the CLI's session file, inside the sandbox: standard library only.

The sandbox's own Python runs it as a program: ``python -c <this file> CONFIG_DIR SESSION_ID``, with
a list of operations as JSON on stdin. It prints one JSON object: ``{"found": bool, "open":
[[id, tool], …]}``, where ``open`` are the calls of the last model message that have no result, in
order, after the operation ``drop_results`` and before all others.

The file is JSON lines, to which the CLI appends. When the CLI resumes the session, it asks about a
call again if the file's last ``hook_deferred_tool`` row names that call and no later row has its
result. The CLI itself writes such a row for a call that a hook deferred; here it is appended for
calls whose CLI ended while they waited.

Operations: ``["drop_results", id, …]`` (drop the results of these calls and what came after the
first of them; done before all others), ``["defer", id]`` and ``["close", id, text,
"ok" | "failed"]`` (append a result).
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

Row = dict[str, Any]
COPIED_FIELDS = ("cwd", "sessionId", "version", "gitBranch", "userType", "entrypoint", "timestamp")


def main(config_dir: str, session_id: str, operations: list[list[str]]) -> Row:
    files = sorted(Path(config_dir).glob(f"projects/*/{session_id}.jsonl"))
    if not files:
        return {"found": False, "open": []}
    path = files[0]
    for operation in operations:
        if operation[0] == "drop_results":
            drop_results(path, set(operation[1:]))
    rows = read(path)
    calls = open_calls(rows)
    others = (operation for operation in operations if operation[0] != "drop_results")
    added = [row for operation in others for row in perform(operation, rows)]
    if added:
        append(path, added)
    return {"found": True, "open": calls}


def read(path: Path) -> list[Row]:
    with path.open("rb") as file:
        return [row for row in map(parse, file) if row]


def parse(line: bytes) -> Row:
    """One row; empty for a line that was cut off when the CLI was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def drop_results(path: Path, ids: set[str]) -> None:
    """Cut the file before the first result of ``ids``; behind it, only real results of other calls
    are kept."""
    kept, cut = [], False
    for line in path.read_bytes().splitlines(keepends=True):
        row = parse(line)
        results = results_in(row)
        cut = cut or bool(results & ids)
        ran = bool(results) and not results & ids and not row.get("toolDenialKind")
        if not cut or ran:
            kept.append(line)
    if cut:
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(b"".join(kept))
        temporary.replace(path)


def results_in(row: Row) -> set[str]:
    """The ids of the calls whose results a row has."""
    if row.get("type") != "user":
        return set()
    found = (b.get("tool_use_id") for b in blocks(row) if b.get("type") == "tool_result")
    return {str(call_id) for call_id in found}


def blocks(row: Row) -> list[Row]:
    message = row.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def open_calls(rows: list[Row]) -> list[list[str]]:
    """The main agent's calls without a result since the last prompt, as id and tool."""
    calls: dict[str, str] = {}
    for row in rows:
        if row.get("isSidechain"):
            continue
        if row.get("type") == "assistant":
            made = [b for b in blocks(row) if b.get("type") == "tool_use"]
            calls.update((str(block.get("id")), str(block.get("name"))) for block in made)
        elif row.get("type") == "user":
            results = [b for b in blocks(row) if b.get("type") == "tool_result"]
            for block in results:
                calls.pop(str(block.get("tool_use_id")), None)
            if not results and not row.get("isMeta"):
                calls.clear()
    return [[call_id, tool] for call_id, tool in calls.items()]


def perform(operation: list[str], rows: list[Row]) -> list[Row]:
    """The rows to be appended for one operation; they are added to ``rows`` as well."""
    kind, call_id, *rest = operation
    for owner in reversed(rows):
        call = next((b for b in blocks(owner) if b.get("id") == call_id), None)
        if owner.get("type") == "assistant" and call is not None:
            row = deferral_row(call, rows) if kind == "defer" else result_row(call_id, rest, owner)
            rows.append(row)
            return [row]
    return []


def deferral_row(call: Row, rows: list[Row]) -> Row:
    last = next(row for row in reversed(rows) if row.get("uuid"))
    attachment = {
        "type": "hook_deferred_tool",
        "toolUseID": call["id"],
        "toolName": call.get("name"),
        "toolInput": call.get("input"),
        "hookName": f"PreToolUse:{call.get('name')}",
        "hookEvent": "PreToolUse",
        "permissionMode": "default",
    }
    return {
        **common_fields(last),
        "parentUuid": last["uuid"],
        "type": "attachment",
        "attachment": attachment,
    }


def result_row(call_id: str, result: list[str], owner: Row) -> Row:
    text, failed = result[0], result[1] != "ok"
    block = {"type": "tool_result", "content": text, "is_error": failed, "tool_use_id": call_id}
    return {
        **common_fields(owner),
        "parentUuid": owner.get("uuid"),
        "type": "user",
        "message": {"role": "user", "content": [block]},
        "toolUseResult": text,
        "sourceToolAssistantUUID": owner.get("uuid"),
    }


def common_fields(row: Row) -> Row:
    kept = {name: row[name] for name in COPIED_FIELDS if name in row}
    return {**kept, "isSidechain": False, "uuid": str(uuid.uuid4())}


def append(path: Path, rows: list[Row]) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
        cut_off = bool(end) and file.read(1) != b"\n"
        file.seek(0, 2)
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        file.write((b"\n" if cut_off else b"") + text.encode())


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2], json.load(sys.stdin)), sys.stdout)
