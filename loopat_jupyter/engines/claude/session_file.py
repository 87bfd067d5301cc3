"""Looking into and mending the CLI's session file, inside the sandbox: standard library only.

Run as a program by the sandbox's own Python: ``python -c <this file> CONFIG_DIR SESSION_ID``, with
a list of operations as JSON on stdin. It prints one JSON object: ``{"found": bool, "open":
[[id, tool], …]}``, the calls of the last answer that have no result, in their order, as they were
*before* the operations.

The file is JSON lines that the CLI appends to. A call is asked about again when the CLI resumes if
the file's last ``hook_deferred_tool`` row names it and no later row mentions its result; that row
is what the CLI itself writes for a call that a hook deferred. We append it for calls whose CLI
ended while they waited.

Operations: ``["reopen", id, …]`` (drop their results and what came after; it is done first, and
the answer tells of the file after it), ``["defer", id]`` and ``["close", id, text,
"ok" | "failed"]`` (its result).
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

Row = dict[str, Any]
KEPT = ("cwd", "sessionId", "version", "gitBranch", "userType", "entrypoint", "timestamp")


def main(config_dir: str, session_id: str, operations: list[list[str]]) -> Row:
    files = sorted(Path(config_dir).glob(f"projects/*/{session_id}.jsonl"))
    if not files:
        return {"found": False, "open": []}
    path = files[0]
    for operation in operations:
        if operation[0] == "reopen":
            drop_results(path, set(operation[1:]))
    rows = read(path)
    calls = open_calls(rows)
    others = (operation for operation in operations if operation[0] != "reopen")
    added = [row for operation in others for row in perform(operation, rows)]
    if added:
        append(path, added)
    return {"found": True, "open": calls}


def read(path: Path) -> list[Row]:
    with path.open("rb") as file:
        return [row for row in map(parse, file) if row]


def parse(line: bytes) -> Row:
    """Empty for a line that was cut off when the CLI was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def drop_results(path: Path, ids: set[str]) -> None:
    """Cut the file before the first result of ``ids``; what other calls really gave is kept."""
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
    """The calls that a row has the result of."""
    if row.get("type") != "user":
        return set()
    found = (b.get("tool_use_id") for b in blocks(row) if b.get("type") == "tool_result")
    return {str(ident) for ident in found}


def blocks(row: Row) -> list[Row]:
    message = row.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def open_calls(rows: list[Row]) -> list[list[str]]:
    """The main conversation's calls without a result, of the last prompt only."""
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
    return [[ident, tool] for ident, tool in calls.items()]


def perform(operation: list[str], rows: list[Row]) -> list[Row]:
    """The rows to be appended for one operation; they are added to ``rows`` too."""
    kind, ident, *rest = operation
    for owner in reversed(rows):
        call = next((b for b in blocks(owner) if b.get("id") == ident), None)
        if owner.get("type") == "assistant" and call is not None:
            row = deferral(call, rows) if kind == "defer" else result_row(ident, rest, owner)
            rows.append(row)
            return [row]
    return []


def deferral(call: Row, rows: list[Row]) -> Row:
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
        **base(last),
        "parentUuid": last["uuid"],
        "type": "attachment",
        "attachment": attachment,
    }


def result_row(ident: str, said: list[str], owner: Row) -> Row:
    text, failed = said[0], said[1] != "ok"
    result = {"type": "tool_result", "content": text, "is_error": failed, "tool_use_id": ident}
    return {
        **base(owner),
        "parentUuid": owner.get("uuid"),
        "type": "user",
        "message": {"role": "user", "content": [result]},
        "toolUseResult": text,
        "sourceToolAssistantUUID": owner.get("uuid"),
    }


def base(row: Row) -> Row:
    kept = {name: row[name] for name in KEPT if name in row}
    return {**kept, "isSidechain": False, "uuid": str(uuid.uuid4())}


def append(path: Path, rows: list[Row]) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(end - 1)
        torn = bool(end) and file.read(1) != b"\n"
        file.seek(0, 2)
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        file.write((b"\n" if torn else b"") + text.encode())


if __name__ == "__main__":
    json.dump(main(sys.argv[1], sys.argv[2], json.load(sys.stdin)), sys.stdout)
