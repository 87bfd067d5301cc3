"""What went wrong, as one line that a person can act on, without any secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...loops.errors import TurnFailure

MESSAGE_LIMIT = 500
_JSON = re.compile(r"\{.*\}", re.DOTALL)
_STATUS = re.compile(r"API Error: (\d{3})\b")
_NOISE = re.compile(r"^\[claude-code:")
INSTALL_AGAIN = "Install the extra again: pip install -U 'loopat-jupyter[claude]'."
NO_CONVERSATION = "No conversation found"
"""What the CLI says when it cannot resume a session."""
LOST_SESSION = (
    "The agent's own record of this conversation is gone from the loop's home, so it cannot go on "
    "where it was. Files and messages are kept. Send the message again: the agent then begins a "
    "new record, and is told what was said so far."
)


def clean(text: str, secrets: Iterable[str]) -> str:
    """One line, bounded, without ``secrets``."""
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, "[key]")
    return " ".join(text.split())[:MESSAGE_LIMIT]


def could_not_start(why: str, stderr: str, fix: str = INSTALL_AGAIN) -> TurnFailure:
    said = last_line(stderr)
    detail = f"{why}: {said}" if said else why
    return TurnFailure(
        f"The agent's program (the Claude CLI) could not be started: {clean(detail, ())}. {fix}"
    )


def stopped(why: str, stderr: str, secrets: Iterable[str]) -> TurnFailure:
    said = last_line(stderr)
    detail = clean(f"{why}: {said}" if said else why, secrets)
    return TurnFailure(
        f"The agent's program (the Claude CLI) stopped: {detail}. What it had done is kept: send a "
        "message to continue."
    )


def last_line(stderr: str) -> str:
    """The last line of stderr that says something."""
    lines = [line.strip() for line in stderr.splitlines() if not _NOISE.match(line.strip())]
    return next((line for line in reversed(lines) if line), "")[:300]


def provider_failed(
    name: str, text: str, status: int | None, secrets: Iterable[str]
) -> TurnFailure:
    """``text`` is what the CLI says of a call of the model that failed."""
    found = _STATUS.search(text)
    if status is None and found is not None:
        status = int(found[1])
    message = clean(_said_by_provider(text) or text, secrets)
    suffix = f" (HTTP status {status})" if status else ""
    return TurnFailure(f"{name} did not answer: {message}{suffix}")


def _said_by_provider(text: str) -> str | None:
    """The provider's own message, where the text quotes its JSON."""
    found = _JSON.search(text)
    if found is None:
        return None
    try:
        body = json.loads(found[0])
    except ValueError:
        return None
    error = body.get("error", body) if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) and message.strip() else None


def result_text(result: Mapping[str, Any]) -> str:
    """What a ``result`` message says went wrong."""
    errors = result.get("errors")
    said = [str(one) for one in errors] if isinstance(errors, list) else []
    text = result.get("result")
    return text if isinstance(text, str) and text.strip() else "; ".join(said)
