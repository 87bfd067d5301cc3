"""The conversation with one agent process: the SDK's client side, and our words for its errors.

The only module that knows the SDK. It is imported when the first agent is started, in a thread:
its schema takes half a second. Every request fails with
:class:`~loopat_jupyter.engines.acp.errors.AgentGone` or
:class:`~loopat_jupyter.engines.acp.errors.AgentRefused`, and with nothing else.

No file system and no terminal is offered: the agent has its own, inside the wall.
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
from .elicitation import Form, form_of
from .errors import AgentGone, AgentRefused
from .permission import PermissionRequest
from .transport import JsonLinesTransport

AUTH_REQUIRED = -32000

OnAsk = Callable[[PermissionRequest], Awaitable[str | None]]
"""Decides a permission request: the id of the option that was chosen, ``None`` for cancelled."""
OnForm = Callable[[Form], Awaitable[Mapping[str, Any] | None]]
"""Has a form filled: its content, ``None`` for cancelled."""


async def load_sdk() -> Any:
    """The SDK. Raises ``TurnFailure`` where it is not installed."""
    why_not = unavailable()
    if why_not is not None:
        raise TurnFailure(why_not)
    return await asyncio.to_thread(importlib.import_module, "acp")


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session as the agent describes it: its mode now, and the modes it can be put into."""

    session_id: str
    mode: str | None
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptResult:
    """The end of a prompt. ``reason`` is the protocol's stop reason."""

    reason: str
    usage: TurnUsage | None


class AcpClient:
    """``wire`` carries it, ``on_ask`` decides what the agent asks, ``on_form`` what it wants to
    know. Forms are not in the protocol's stable part yet, so the SDK wants to be told."""

    def __init__(self, sdk: Any, wire: JsonLinesTransport, on_ask: OnAsk, on_form: OnForm) -> None:
        self._sdk = sdk
        client = _Client(sdk, on_ask, on_form)
        self._connection = sdk.connect_to_agent(client, wire, use_unstable_protocol=True)

    async def initialize(self) -> bool:
        """Greet. Whether the agent can load earlier sessions."""
        schema = self._sdk.schema
        with self._translated():
            answer = await self._connection.initialize(
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
        if answer.protocol_version != self._sdk.PROTOCOL_VERSION:
            raise AgentRefused(
                f"it speaks version {answer.protocol_version} of the Agent Client Protocol, and "
                f"only version {self._sdk.PROTOCOL_VERSION} is understood here"
            )
        capabilities = answer.agent_capabilities
        return bool(capabilities is not None and capabilities.load_session)

    async def new_session(self, cwd: str) -> OpenedSession:
        with self._translated():
            answer = await self._connection.new_session(cwd=cwd, mcp_servers=[])
        return _opened(answer.session_id, answer.modes)

    async def load_session(self, cwd: str, session_id: str) -> OpenedSession:
        with self._translated():
            answer = await self._connection.load_session(
                cwd=cwd, session_id=session_id, mcp_servers=[]
            )
        return _opened(session_id, answer.modes)

    async def set_mode(self, session_id: str, mode: str) -> None:
        with self._translated():
            await self._connection.set_session_mode(session_id=session_id, mode_id=mode)

    async def prompt(self, session_id: str, texts: Sequence[str]) -> PromptResult:
        blocks = [self._sdk.schema.TextContentBlock(type="text", text=text) for text in texts]
        with self._translated():
            answer = await self._connection.prompt(session_id=session_id, prompt=blocks)
        return PromptResult(str(answer.stop_reason), _usage(answer.usage))

    async def cancel(self, session_id: str) -> None:
        with self._translated():
            await self._connection.cancel(session_id=session_id)

    async def close(self) -> None:
        await self._connection.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except self._sdk.RequestError as error:
            raise AgentRefused(_said(error), login=error.code == AUTH_REQUIRED) from error
        except ConnectionError as error:
            raise AgentGone(str(error)) from error
        except ValidationError as error:
            raise AgentRefused(
                f"its answer is not of the Agent Client Protocol ({error.title})"
            ) from None


class _Client:
    """What the agent may ask of us, under the names that the SDK looks for."""

    def __init__(self, sdk: Any, on_ask: OnAsk, on_form: OnForm) -> None:
        self._schema = sdk.schema
        self._on_ask = on_ask
        self._on_form = on_form

    async def request_permission(
        self, session_id: str, tool_call: Any, options: list[Any], **_meta: Any
    ) -> Any:
        call = tool_call.model_dump(mode="json", by_alias=True, exclude_none=True)
        offered = tuple((one.option_id, one.name, str(one.kind)) for one in options)
        chosen = await self._on_ask(PermissionRequest(call, offered))
        if chosen is None:
            outcome = self._schema.DeniedOutcome(outcome="cancelled")
        else:
            outcome = self._schema.AllowedOutcome(outcome="selected", option_id=chosen)
        return self._schema.RequestPermissionResponse(outcome=outcome)

    async def create_elicitation(self, message: str, mode: Any, **_meta: Any) -> Any:
        if not isinstance(mode, self._schema.ElicitationFormSessionMode):
            return self._schema.DeclineElicitationResponse(action="decline")
        wanted = mode.requested_schema.model_dump(mode="json", by_alias=True, exclude_none=True)
        form = form_of(message, wanted, mode.tool_call_id)
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


def _said(error: Any) -> str:
    """The agent's own words; JSON-RPC's name for the kind of error says nothing."""
    said = str(error).removeprefix("Internal error: ").strip()
    data = error.data if isinstance(error.data, dict) else {}
    for name in ("details", "message", "error"):
        detail = data.get(name)
        if isinstance(detail, str) and detail.strip():
            return detail if said in ("", "Internal error") else f"{said}: {detail}"
    return said or "it gave no reason"
