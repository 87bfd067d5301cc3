"""Conversion between our messages and pydantic-ai's.

Outgoing, what providers do not accept is left out: blank text, responses without content. Two
consecutive messages of the user become one, since many chat templates require alternating roles.
Incoming, what a provider requires to be sent back (signatures of its thinking, say) is kept with
its part, as plain JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_ai import messages as wire
from pydantic_ai.usage import RequestUsage
from pydantic_core import to_jsonable_python

from .messages import (
    Message,
    ModelReply,
    Native,
    Part,
    ReplyText,
    ReplyThinking,
    ReplyToolCall,
    TokenCounts,
    ToolResults,
    UserMessage,
)

_PART_NATIVE = ("id", "signature", "provider_name", "provider_details")
_RESPONSE_NATIVE = ("model_name", "provider_name", "provider_url", "canonical_system")


def to_wire(messages: Iterable[Message]) -> list[wire.ModelMessage]:
    """The conversation as pydantic-ai's messages."""
    sent: list[wire.ModelMessage] = []
    for message in messages:
        if isinstance(message, ModelReply):
            parts = [part for part in map(_part_to_wire, message.parts) if part is not None]
            if parts:
                sent.append(wire.ModelResponse(parts=parts, **_native_fields(message.native)))
            continue
        request = sent[-1] if sent and isinstance(sent[-1], wire.ModelRequest) else None
        if request is None:
            request = wire.ModelRequest(parts=[])
            sent.append(request)
        request.parts = _joined([*request.parts, *_request_parts(message)])
    return sent


def _request_parts(message: UserMessage | ToolResults) -> list[wire.ModelRequestPart]:
    if isinstance(message, UserMessage):
        return [wire.UserPromptPart(content=message.text)]
    return [
        wire.ToolReturnPart(
            tool_name=result.tool,
            content=result.text or "(no output)",
            tool_call_id=result.id,
            outcome="success" if result.ok else "failed",
        )
        for result in message.results
    ]


def _joined(parts: list[wire.ModelRequestPart]) -> list[wire.ModelRequestPart]:
    joined: list[wire.ModelRequestPart] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, wire.UserPromptPart) and isinstance(last, wire.UserPromptPart):
            joined[-1] = wire.UserPromptPart(content=f"{last.content}\n\n{part.content}")
        else:
            joined.append(part)
    return joined


def _part_to_wire(part: Part) -> wire.ModelResponsePart | None:
    native = _native_fields(part.native)
    if isinstance(part, ReplyToolCall):
        sent = part.input if isinstance(part.input, str) else dict(part.input)
        return wire.ToolCallPart(part.tool, sent, part.id, **native)
    if isinstance(part, ReplyThinking):
        return wire.ThinkingPart(part.text, **native) if part.text or native else None
    return wire.TextPart(part.text, **native) if part.text.strip() else None


def _native_fields(native: Native | None) -> dict[str, Any]:
    return dict(native or {})


def from_wire(response: wire.ModelResponse) -> ModelReply:
    """The response as a :class:`ModelReply`, without parts of kinds that were not requested."""
    parts = (_part_from_wire(part) for part in response.parts)
    return ModelReply(
        tuple(part for part in parts if part is not None),
        response.model_name or "",
        _tokens(response.usage),
        _native(response, _RESPONSE_NATIVE),
        cut=response.finish_reason == "length",
    )


def _part_from_wire(part: wire.ModelResponsePart) -> Part | None:
    native = _native(part, _PART_NATIVE)
    if isinstance(part, wire.TextPart):
        return ReplyText(part.content, native)
    if isinstance(part, wire.ThinkingPart):
        return ReplyThinking(part.content, native)
    if isinstance(part, wire.ToolCallPart):
        return ReplyToolCall(part.tool_call_id, part.tool_name, _input(part.args), native)
    return None


def _input(args: str | Mapping[str, Any] | None) -> Mapping[str, Any] | str:
    """The call's input; the text as it came where it is no JSON object. Blank text is ``{}``."""
    if not isinstance(args, str):
        return args or {}
    if not args.strip():
        return {}
    try:
        value = json.loads(args, parse_constant=_reject_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return args
    return value if isinstance(value, dict) else args


def _reject_constant(constant: str) -> None:
    """Reject ``NaN`` and the infinities, which are Python's and not JSON's."""
    raise ValueError(constant)


def _finite(digits: str) -> float:
    """Reject numbers beyond a double (``1e999``): they are JSON, but cannot be stored."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _native(source: object, names: Iterable[str]) -> Native | None:
    found = {name: getattr(source, name, None) for name in names}
    return to_jsonable_python({k: v for k, v in found.items() if v}, fallback=str) or None


def _tokens(usage: RequestUsage) -> TokenCounts:
    """pydantic-ai includes cached tokens in ``input_tokens``; here they are counted apart."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return TokenCounts(
        input=max(usage.input_tokens - cached, 0),
        output=usage.output_tokens,
        cache_read=usage.cache_read_tokens,
        cache_write=usage.cache_write_tokens,
    )
