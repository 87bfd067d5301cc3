"""The protocol's client side for one agent process, over the ACP SDK.

The SDK is imported when the first agent is started, in a thread: its schema takes half a second.
Every request fails with :class:`~loopat_jupyter.engines.acp.errors.AgentExited` or
:class:`~loopat_jupyter.engines.acp.errors.AgentRefused`, and with nothing else.

Neither a file system nor terminals are offered: the agent has its own inside the sandbox.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ... import __version__
from ...loops.errors import TurnFailure
from ...loops.ports.engine import TurnUsage
from . import unavailable
from .elicitation import Form, parse_form
from .errors import AgentExited, AgentRefused
from .permission import PermissionRequest
from .transport import AcpTransport

AUTH_REQUIRED = -32000

OnPermission = Callable[[PermissionRequest], Awaitable[str | None]]
"""Decides a permission request: the id of the selected option, ``None`` for cancelled."""
OnForm = Callable[[Form], Awaitable[Mapping[str, Any] | None]]
"""Has a person fill a form: its content, ``None`` for cancelled."""


async def load_sdk() -> Any:
    """Import the SDK in a thread. Raises ``TurnFailure`` where it is not installed."""
    reason = unavailable()
    if reason is not None:
        raise TurnFailure(reason)
    return await asyncio.to_thread(importlib.import_module, "acp")


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session as the agent describes it: the id of its mode, and of all modes it has."""

    session_id: str
    mode: str | None
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptResult:
    """The end of a prompt. ``stop_reason`` is the protocol's."""

    stop_reason: str
    usage: TurnUsage | None


class AcpClient:
    """Sends requests to the agent, and passes its requests to the two callbacks."""

    def __init__(
        self, sdk: Any, transport: AcpTransport, on_permission: OnPermission, on_form: OnForm
    ) -> None:
        self._sdk = sdk
        handler = _RequestHandler(sdk, on_permission, on_form)
        # Elicitation is not in the protocol's stable part yet; the SDK wants that acknowledged.
        self._connection = sdk.connect_to_agent(handler, transport, use_unstable_protocol=True)

    async def initialize(self) -> bool:
        """Negotiate the protocol's version. Returns whether the agent can load sessions."""
        schema = self._sdk.schema
        with self._as_agent_errors():
            response = await self._connection.initialize(
                protocol_version=self._sdk.PROTOCOL_VERSION,
                client_capabilities=schema.ClientCapabilities(
                    fs=schema.FileSystemCapabilities(read_text_file=False, write_text_file=False),
                    terminal=False,
                    elicitation=schema.ElicitationCapabilities(
                        form=schema.ElicitationFormCapabilities()
                    ),
                ),
                client_info=schema.Implementation(name="loopat-jupyter", version=__version__),
            )
        if response.protocol_version != self._sdk.PROTOCOL_VERSION:
            raise AgentRefused(
                f"it speaks version {response.protocol_version} of the Agent Client Protocol, and "
                f"only version {self._sdk.PROTOCOL_VERSION} is understood here"
            )
        capabilities = response.agent_capabilities
        return bool(capabilities is not None and capabilities.load_session)

    async def new_session(self, cwd: str) -> OpenedSession:
        with self._as_agent_errors():
            response = await self._connection.new_session(cwd=cwd, mcp_servers=[])
        return _opened(response.session_id, response.modes)

    async def load_session(self, cwd: str, session_id: str) -> OpenedSession:
        with self._as_agent_errors():
            response = await self._connection.load_session(
                cwd=cwd, session_id=session_id, mcp_servers=[]
            )
        return _opened(session_id, response.modes)

    async def set_mode(self, session_id: str, mode: str) -> None:
        with self._as_agent_errors():
            await self._connection.set_session_mode(session_id=session_id, mode_id=mode)

    async def prompt(self, session_id: str, texts: Sequence[str]) -> PromptResult:
        blocks = [self._sdk.schema.TextContentBlock(type="text", text=text) for text in texts]
        with self._as_agent_errors():
            response = await self._connection.prompt(session_id=session_id, prompt=blocks)
        return PromptResult(str(response.stop_reason), _usage(response.usage))

    async def cancel(self, session_id: str) -> None:
        with self._as_agent_errors():
            await self._connection.cancel(session_id=session_id)

    async def close(self) -> None:
        await self._connection.close()

    @contextmanager
    def _as_agent_errors(self) -> Generator[None]:
        try:
            yield
        except self._sdk.RequestError as error:
            raise AgentRefused(_error_text(error), login=error.code == AUTH_REQUIRED) from error
        except ConnectionError as error:
            raise AgentExited(str(error)) from error
        except ValidationError as error:
            raise AgentRefused(
                f"its response is not of the Agent Client Protocol ({error.title})"
            ) from None


class _RequestHandler:
    """Handles the agent's requests, under the method names that the SDK looks for."""

    def __init__(self, sdk: Any, on_permission: OnPermission, on_form: OnForm) -> None:
        self._schema = sdk.schema
        self._on_permission = on_permission
        self._on_form = on_form

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **_meta: Any
    ) -> Any:
        call = tool_call.model_dump(mode="json", by_alias=True, exclude_none=True)
        offered = tuple((item.option_id, item.name, str(item.kind)) for item in options)
        chosen = await self._on_permission(PermissionRequest(call, offered))
        if chosen is None:
            outcome = self._schema.DeniedOutcome(outcome="cancelled")
        else:
            outcome = self._schema.AllowedOutcome(outcome="selected", option_id=chosen)
        return self._schema.RequestPermissionResponse(outcome=outcome)

    async def create_elicitation(self, message: str, mode: Any, **_meta: Any) -> Any:
        if not isinstance(mode, self._schema.ElicitationFormSessionMode):
            return self._schema.DeclineElicitationResponse(action="decline")
        schema = mode.requested_schema.model_dump(mode="json", by_alias=True, exclude_none=True)
        form = parse_form(message, schema, mode.tool_call_id)
        if form is None:
            return self._schema.DeclineElicitationResponse(action="decline")
        content = await self._on_form(form)
        if content is None:
            return self._schema.CancelElicitationResponse(action="cancel")
        return self._schema.AcceptElicitationResponse(action="accept", content=dict(content))


def _opened(session_id: str, modes: Any) -> OpenedSession:
    if modes is None:
        return OpenedSession(session_id, None, ())
    return OpenedSession(
        session_id, modes.current_mode_id, tuple(m.id for m in modes.available_modes)
    )


def _usage(usage: Any) -> TurnUsage | None:
    if usage is None:
        return None
    return TurnUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_read_tokens or 0,
        cache_write_tokens=usage.cached_write_tokens or 0,
    )


def _error_text(error: Any) -> str:
    """The agent's own words, without JSON-RPC's name for the kind of error."""
    text = str(error).removeprefix("Internal error: ").strip()
    data = error.data if isinstance(error.data, dict) else {}
    for name in ("details", "message", "error"):
        detail = data.get(name)
        if isinstance(detail, str) and detail.strip():
            return detail if text in ("", "Internal error") else f"{text}: {detail}"
    return text or "it gave no reason"
