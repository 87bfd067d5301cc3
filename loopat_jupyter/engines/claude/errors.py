"""The failures of the CLI and of its model provider, each one line that a person can act on.

The provider's own error is captured on its way to the CLI (:class:`ErrorCapturingUpstream`): the
CLI passes on only a part of it, and repeats requests where that cannot help.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...loops.errors import TurnFailure
from ...loops.ports.network import Headers, ModelRequestRefused, ModelResponse, ModelUpstream
from ..agents.errors import WORK_KEPT, one_line

_JSON = re.compile(r"\{.*\}", re.DOTALL)
_STATUS = re.compile(r"API Error: (\d{3})\b")
INSTALL_AGAIN = "Install the extra again: pip install -U 'loopat-jupyter[claude]'."
NO_CONVERSATION = "No conversation found"
"""What the CLI prints when it cannot resume a session."""
LOST_SESSION = (
    "The agent's own record of this conversation is gone from the loop's home, so it cannot go on "
    "where it was. Files and messages are kept. Send the message again: the agent then begins a "
    "new record, and is told what was said so far."
)
CAPTURE_LIMIT = 8192
"""Bytes of an error response that are kept."""
NOT_FOUND = 404
PERMANENT = frozenset({400, 401, 403, NOT_FOUND})
"""HTTP statuses with which the same request will always be refused."""


# ---------------------------------------------------------------------- failures of the CLI


def start_failed(reason: str, error_line: str, fix: str = INSTALL_AGAIN) -> TurnFailure:
    """``error_line`` is quoted from the CLI's output and may be empty; ``fix`` is a sentence."""
    detail = one_line(f"{reason}: {error_line}" if error_line else reason)
    return TurnFailure(
        f"The agent's program (the Claude CLI) could not be started: {detail}. {fix}"
    )


def stopped(reason: str, error_line: str, secrets: Iterable[str]) -> TurnFailure:
    """The CLI ended, or had to be given up, during a turn."""
    detail = one_line(f"{reason}: {error_line}" if error_line else reason, secrets)
    return TurnFailure(f"The agent's program (the Claude CLI) stopped: {detail}. {WORK_KEPT}")


def result_error(result: Mapping[str, Any]) -> str:
    """The error text of a ``result`` message; may be empty."""
    errors = result.get("errors")
    texts = [str(error) for error in errors] if isinstance(errors, list) else []
    text = result.get("result")
    return text if isinstance(text, str) and text.strip() else "; ".join(texts)


# ---------------------------------------------------------------------- failures of the provider


def provider_failed(
    name: str, text: str, status: int | None, secrets: Iterable[str]
) -> TurnFailure:
    """A model call failed. ``name`` is ``provider/model``, ``text`` the provider's response or
    the CLI's report of it, ``status`` the HTTP status where it is known."""
    found = _STATUS.search(text)
    if status is None and found is not None:
        status = int(found[1])
    message = one_line(_provider_message(text) or text, secrets)
    suffix = f" (HTTP status {status})" if status else ""
    return TurnFailure(f"{name} did not answer: {message}{suffix}")


def _provider_message(text: str) -> str | None:
    """The message in the JSON error body that ``text`` is or quotes."""
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


@dataclass(frozen=True, slots=True)
class ProviderError:
    """``status`` is ``None`` where the provider could not be reached."""

    status: int | None
    text: str

    @property
    def permanent(self) -> bool:
        return self.status in PERMANENT


class ErrorCapturingUpstream:
    """A :class:`~loopat_jupyter.loops.ports.network.ModelUpstream` over another one, unchanged but
    for one thing: after a 404 it refuses further requests itself."""

    def __init__(self, upstream: ModelUpstream) -> None:
        self._upstream = upstream
        self.error: ProviderError | None = None
        """The error of the last request; ``None`` where that succeeded."""

    @property
    def host(self) -> str:
        return self._upstream.host

    @property
    def port(self) -> int:
        return self._upstream.port

    async def send_request(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> ModelResponse:
        if self.error is not None and self.error.status == NOT_FOUND:
            raise ModelRequestRefused(self.error.text)
        try:
            response = await self._upstream.send_request(method, target, headers, body)
        except OSError as error:
            self.error = ProviderError(None, str(error))
            raise
        self.error = None
        return response if response.status < 400 else _CapturingResponse(response, self)


class _CapturingResponse:
    """An error response; what the CLI reads of it is kept in the upstream."""

    def __init__(self, response: ModelResponse, upstream: ErrorCapturingUpstream) -> None:
        self._response = response
        self._upstream = upstream
        self.status = response.status
        self.headers = response.headers

    async def body(self) -> AsyncIterator[bytes]:
        captured = b""
        async for chunk in self._response.body():
            captured += chunk[: CAPTURE_LIMIT - len(captured)]
            text = captured.decode("utf-8", "replace")
            self._upstream.error = ProviderError(self.status, text)
            yield chunk

    async def close(self) -> None:
        await self._response.close()
