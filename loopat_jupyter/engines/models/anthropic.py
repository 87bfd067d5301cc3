"""The Anthropic Messages API, Anthropic's own and everybody's who speaks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...context.config_file import SelectedModel
from .call_arguments import as_object, parse_arguments
from .capabilities import BUDGETS, claude_traits
from .messages import (
    Message,
    ModelReply,
    Part,
    ReplyText,
    ReplyThinking,
    ReplyToolCall,
    TokenCounts,
    ToolResults,
    UserMessage,
)
from .port import ModelError, ModelText, ModelThinking
from .wire import Delta, Json, Origin, RequestPlan, UsageMeter, portable_id, tokens

VERSION = "2023-06-01"
CACHED = {"type": "ephemeral"}
NO_OUTPUT = "(no output)"
THINKING_ROOM = 1024
"""The API's smallest budget, and what is left for the answer at the least."""
CUT = frozenset({"max_tokens", "length", "model_context_window_exceeded"})
REFUSED = frozenset({"refusal", "content_filter", "safety"})


class AnthropicFormat:
    """Implements :class:`~.wire.WireFormat`."""

    optional: tuple[str, ...] = (
        "output_config",
        "thinking",
        "cache_control",
        "tool_choice",
        "is_error",
    )

    def url(self, address: str) -> str:
        return f"{address}/messages" if address.endswith("/v1") else f"{address}/v1/messages"

    def headers(self, choice: SelectedModel) -> dict[str, str]:
        """The key as a bearer token and in the API's older header: gateways look for one of
        both."""
        return {
            "authorization": f"Bearer {choice.api_key}",
            "x-api-key": choice.api_key,
            "anthropic-version": VERSION,
        }

    def body(self, plan: RequestPlan) -> Json:
        request, omitted = plan.request, plan.omitted
        body: Json = {
            "model": plan.choice.model,
            "max_tokens": _output_limit(plan),
            "messages": encode_messages(request.messages, plan.origin),
            "stream": True,
        }
        if request.instructions.strip():
            body["system"] = [{"type": "text", "text": request.instructions}]
        if request.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": dict(tool.schema),
                }
                for tool in request.tools
            ]
            body["tool_choice"] = {"type": "auto"}
        body |= _thinking(plan, body["max_tokens"])
        if "cache_control" not in omitted:
            _mark_cached(body)
        if "is_error" in omitted:
            for block in _blocks(body):
                block.pop("is_error", None)
        return {name: value for name, value in body.items() if name not in omitted}

    def reader(self, plan: RequestPlan) -> AnthropicReader:
        return AnthropicReader(plan.origin)


def _output_limit(plan: RequestPlan) -> int:
    limit = plan.choice.max_tokens or claude_traits(plan.choice.model).output
    return min(limit, plan.output_limit) if plan.output_limit else limit


def _thinking(plan: RequestPlan, max_tokens: int) -> Json:
    wanted, traits = plan.choice.thinking, claude_traits(plan.choice.model)
    if wanted is None:
        return {}
    if wanted is False:
        return {} if not traits.adaptive else {"thinking": {"type": "disabled"}}
    level = "medium" if wanted is True else wanted
    if traits.adaptive:
        effort = {"output_config": {"effort": "low" if level == "minimal" else level}}
        return {"thinking": {"type": "adaptive"}, **(effort if wanted is not True else {})}
    budget = min(BUDGETS[level], max_tokens - THINKING_ROOM)
    if budget < THINKING_ROOM:
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _mark_cached(body: Json) -> None:
    """Where the provider's prompt cache may end: after tools, instructions and the last message."""
    for blocks in (body.get("tools"), body.get("system")):
        if blocks:
            blocks[-1]["cache_control"] = CACHED
    if body["messages"]:
        last = body["messages"][-1]["content"][-1]
        if last["type"] not in ("thinking", "redacted_thinking"):
            last["cache_control"] = CACHED


def _blocks(body: Json) -> Iterable[Json]:
    return (block for message in body["messages"] for block in message["content"])


def encode_messages(messages: Iterable[Message], origin: Origin) -> list[Json]:
    """Turns of user and assistant, strictly in turn; results come before the user's words."""
    sent: list[Json] = []
    for message in messages:
        if isinstance(message, ModelReply):
            role, blocks = "assistant", _reply_blocks(message, origin)
        elif isinstance(message, UserMessage):
            role, blocks = "user", [{"type": "text", "text": message.text}]
        else:
            role, blocks = "user", _result_blocks(message)
        if not blocks:
            continue
        if sent and sent[-1]["role"] == role:
            sent[-1]["content"] = _joined(sent[-1]["content"], blocks)
        else:
            sent.append({"role": role, "content": blocks})
    return sent


def _joined(blocks: list[Json], more: list[Json]) -> list[Json]:
    """One message of two; a text that follows a text becomes one with it."""
    first, last = more[0], blocks[-1]
    if first["type"] == last["type"] == "text":
        text = f"{last['text']}\n\n{first['text']}"
        return [*blocks[:-1], {"type": "text", "text": text}, *more[1:]]
    return [*blocks, *more]


def _reply_blocks(reply: ModelReply, origin: Origin) -> list[Json]:
    own = origin.is_origin_of(reply)
    blocks = [block for part in reply.parts if (block := _part_block(part, own)) is not None]
    if all(block["type"] in ("thinking", "redacted_thinking") for block in blocks):
        return []  # a message of thinking alone is refused
    return blocks


def _part_block(part: Part, own: bool) -> Json | None:
    if isinstance(part, ReplyToolCall):
        return {
            "type": "tool_use",
            "id": portable_id(part.id),
            "name": part.tool,
            "input": as_object(part.input),
        }
    if isinstance(part, ReplyText):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    native = part.native or {}
    if not own:
        return None
    if "redacted" in native:
        return {"type": "redacted_thinking", "data": native["redacted"]}
    if native.get("signature"):
        return {"type": "thinking", "thinking": part.text, "signature": native["signature"]}
    return None


def _result_blocks(message: ToolResults) -> list[Json]:
    return [
        {
            "type": "tool_result",
            "tool_use_id": portable_id(result.id),
            "content": [{"type": "text", "text": result.text or NO_OUTPUT}],
            "is_error": not result.ok,
        }
        for result in message.results
    ]


class _Block:
    """One content block while it comes."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.type = str(start.get("type") or "")
        self.start = start
        self.text = ""
        self.arguments = ""
        self.signature = str(start.get("signature") or "")

    def part(self, cut: bool) -> Part | None:
        if self.type == "text":
            return ReplyText(self.text) if self.text else None
        if self.type == "thinking":
            native = {"signature": self.signature} if self.signature else None
            return ReplyThinking(self.text, native) if self.text or native else None
        if self.type == "redacted_thinking":
            return ReplyThinking("", {"redacted": str(self.start.get("data") or "")})
        if self.type == "tool_use":
            name = str(self.start.get("name") or "")
            return ReplyToolCall(str(self.start.get("id") or ""), name, self._input(cut))
        return None

    def _input(self, cut: bool) -> Mapping[str, Any] | str:
        if self.arguments:
            return parse_arguments(self.arguments)
        given = self.start.get("input")
        return "" if cut and not given else parse_arguments(given)


class AnthropicReader:
    """Implements :class:`~.wire.ReplyReader`."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._usage = UsageMeter()
        self._blocks: list[_Block] = []
        self._open: dict[object, _Block] = {}
        self._model = ""
        self._stop: str | None = None
        self._ended = False

    def read_event(self, data: Json) -> Iterable[Delta]:
        kind = data.get("type")
        if kind == "message_start":
            self._read_message(data.get("message"))
        elif kind == "content_block_start":
            yield from self._start(data)
        elif kind == "content_block_delta":
            yield from self._delta(data)
        elif kind == "message_delta":
            self._read_message(data.get("delta"))
            self._report(data.get("usage"))
        elif kind == "message_stop":
            self._ended = True

    def read_whole(self, body: Json) -> Iterable[Delta]:
        self._read_message(body)
        content = body.get("content")
        for block in content if isinstance(content, list) else ():
            if isinstance(block, Mapping):
                yield from self._start({"content_block": block})
        self._ended = True

    def flush_pending(self) -> Iterable[Delta]:
        return ()

    def mark_ended(self) -> None:
        self._ended = True

    def _read_message(self, message: object) -> None:
        if not isinstance(message, Mapping):
            return
        self._model = str(message.get("model") or self._model)
        stop = message.get("stop_reason")
        self._stop = stop if isinstance(stop, str) else self._stop
        self._report(message.get("usage"))

    def _report(self, usage: object) -> None:
        self._usage.report(
            TokenCounts(
                tokens(usage, "input_tokens"),
                tokens(usage, "output_tokens"),
                tokens(usage, "cache_read_input_tokens"),
                tokens(usage, "cache_creation_input_tokens"),
            )
        )

    def _start(self, data: Mapping[str, Any]) -> Iterable[Delta]:
        start = data.get("content_block")
        block = _Block(start if isinstance(start, Mapping) else {})
        self._blocks.append(block)
        self._open[data.get("index")] = block
        if text := block.start.get("text"):
            yield from self._add_text(block, str(text))
        if thinking := block.start.get("thinking"):
            yield from self._add_text(block, str(thinking))

    def _delta(self, data: Mapping[str, Any]) -> Iterable[Delta]:
        delta = data.get("delta")
        if not isinstance(delta, Mapping):
            return
        block = self._open.get(data.get("index"))
        if block is None:  # a server that left out the start of the block
            kinds = {"thinking_delta": "thinking", "signature_delta": "thinking"}
            block = _Block({"type": kinds.get(str(delta.get("type")), "text")})
            self._blocks.append(block)
            self._open[data.get("index")] = block
        if isinstance(delta.get("partial_json"), str):
            block.arguments += delta["partial_json"]
        if isinstance(delta.get("signature"), str):
            block.signature += delta["signature"]
        for name in ("text", "thinking"):
            if isinstance(delta.get(name), str) and delta[name]:
                yield from self._add_text(block, delta[name])

    def _add_text(self, block: _Block, text: str) -> Iterable[Delta]:
        block.text += text
        if block.type == "text":
            yield ModelText(text)
        elif block.type == "thinking":
            yield ModelThinking(text)

    def reply(self) -> ModelReply:
        stop = self._stop
        if not (self._ended or stop):
            raise ModelError("The answer ended before it was complete.", retryable=True)
        if stop in REFUSED:
            raise ModelError("It refused to answer (its safety rules stopped it).")
        if stop == "error":
            raise ModelError("It ended its answer with an error.", retryable=True)
        cut = stop in CUT
        last = len(self._blocks) - 1
        parts = [block.part(cut and index == last) for index, block in enumerate(self._blocks)]
        return ModelReply(
            tuple(part for part in parts if part is not None),
            self._model,
            self._usage.seen,
            self._origin.as_native(),
            cut=cut,
            paused=stop == "pause_turn",
        )
