"""Parameters and examples that several operations share."""

from __future__ import annotations

from typing import Any

from .operations import Parameter

LOOP_ID = Parameter(
    "loop_id",
    "path",
    "The loop's id.",
    {"type": "string", "maxLength": 200},
    "loop_2f1c7f6e-6d0a-4d0e-9a3b-0d8f0c5a1b2c",
)
CHOICE_ID = Parameter(
    "choice_id",
    "path",
    "The id from the `requires_choice` event.",
    {"type": "string", "maxLength": 200},
    "choice_5f0c1a2b3c4d5e6f70819293",
)
RULE_ID = Parameter(
    "rule_id", "path", "The rule's id.", {"type": "string", "maxLength": 200}, "rule_0a1b2c3d4e5f"
)
TOKEN_ID = Parameter(
    "token_id", "path", "The token's id.", {"type": "string", "maxLength": 200}, "tok_0a1b2c3d4e5f"
)
LIMIT = Parameter(
    "limit",
    "query",
    "How many rows at the most.",
    {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    20,
)
INCLUDE = Parameter(
    "include",
    "query",
    "`sdk_message` adds the engine's raw messages; unstable.",
    {"type": "string", "enum": ["sdk_message"]},
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The same key with the same loop and body never runs the message twice; it answers with the "
    "first one's events. Kept for 24 hours, also across restarts.",
    {"type": "string", "maxLength": 256},
    "9f3c2a10-nightly-report",
)

LOOP_EXAMPLE: dict[str, Any] = {
    "id": "loop_2f1c7f6e-6d0a-4d0e-9a3b-0d8f0c5a1b2c",
    "title": "Tidy the data folder",
    "created_at": "2026-01-31T12:00:00.000000Z",
    "created_by": "owner",
    "archived": False,
    "archived_at": None,
    "metadata": {"ticket": "DATA-7"},
    "profiles": [],
    "vault": "default",
    "repo": None,
    "folders": [{"path": "data", "write": False}],
    "engine": "builtin",
    "sandbox": "bubblewrap",
    "durable_choices": True,
}
IDLE_EXAMPLE: dict[str, Any] = {
    **LOOP_EXAMPLE,
    "engine_reason": "it comes with loopat",
    "isolation": {
        "isolates": True,
        "enforced": ["no capabilities, an unprivileged user, a system call filter"],
        "gaps": ["the kernel is shared with the host"],
    },
    "busy": False,
    "queue_depth": 0,
    "turn_count": 3,
    "current_turn": None,
}
STREAM_EXAMPLE = (
    "id: 1\nevent: started\n"
    'data: {"turn_id":"turn_00112233445566778899","cold_start":true,"content":"Hello"}\n\n'
    "id: 2\nevent: assistant_delta\n"
    'data: {"turn_id":"turn_00112233445566778899","text":"Hi there."}\n\n'
    "id: 3\nevent: done\n"
    'data: {"turn_id":"turn_00112233445566778899","usage":{"input_tokens":12,"output_tokens":4,'
    '"cache_read_tokens":0,"cache_write_tokens":0}}\n\n'
)
