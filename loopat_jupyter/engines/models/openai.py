"""The OpenAI Chat Completions API, OpenAI's own and everybody's who speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...context.config_file import SelectedModel
from .call_arguments import as_object, is_whole, parse_arguments
from .capabilities import base_name
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
from .wire import Delta, Json, Origin, RequestPlan, UsageMeter, portable_id, short_id, tokens

NO_OUTPUT = "(no output)"
TURN_ENDED = "(The turn ended here.)"
"""Stands between a result and the next message of the user: some providers forbid that order."""
REASONING = ("reasoning_content", "reasoning")
"""The fields in which servers send a model's thinking; what came in one goes back in the same."""
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
REFUSED = frozenset(
    {
        "content_filter",
        "safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "refusal",
        "sensitive",
    }
)
FAILED = frozenset(
    {
        "error",
        "malformed_function_call",
        "insufficient_system_resource",
        "network_error",
        "unexpected_tool_call",
    }
)
MISTRAL = ("mistral", "ministral", "codestral", "devstral", "magistral", "pixtral", "open-mi")
REASONS = ("gpt-5", "gpt-6", "o1", "o3", "o4", "gpt-oss")


class OpenAiFormat:
    """Implements :class:`~.wire.WireFormat`."""

    optional: tuple[str, ...] = (
        "stream_options",
        "max_completion_tokens",
        "reasoning_effort",
        "tool_choice",
        *("reasoning_content", "reasoning_details", "reasoning", "extra_content"),
    )

    def url(self, address: str) -> str:
        return f"{address}/chat/completions"

    def headers(self, choice: SelectedModel) -> dict[str, str]:
        return {"authorization": f"Bearer {choice.api_key}"}

    def body(self, plan: RequestPlan) -> Json:
        choice, request, omitted = plan.choice, plan.request, plan.omitted
        messages = _Encoder(plan).messages(request.messages)
        if request.instructions.strip():
            messages.insert(0, {"role": "system", "content": request.instructions})
        body: Json = {
            "model": choice.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.schema),
                    },
                }
                for tool in request.tools
            ]
            body["tool_choice"] = "auto"
        limit = _output_limit(plan)
        if limit is not None:
            old = "max_completion_tokens" in omitted
            body["max_tokens" if old else "max_completion_tokens"] = limit
        if isinstance(choice.thinking, str):
            body["reasoning_effort"] = choice.thinking
        elif choice.thinking is True and base_name(choice.model).startswith(REASONS):
            body["reasoning_effort"] = "medium"
        return {name: value for name, value in body.items() if name not in omitted}

    def reader(self, plan: RequestPlan) -> OpenAiReader:
        return OpenAiReader(plan.origin, {tool.name for tool in plan.request.tools})


def _output_limit(plan: RequestPlan) -> int | None:
    limits = [one for one in (plan.choice.max_tokens, plan.output_limit) if one]
    return min(limits) if limits else None


class _Encoder:
    """Messages in an order that no provider's rules forbid.

    system, then user and assistant in turn; after an assistant's calls all their results and then
    the assistant again; no message without content or calls; ids as the model's provider takes
    them.
    """

    def __init__(self, plan: RequestPlan) -> None:
        self._origin = plan.origin
        self._omitted = plan.omitted
        named = f"{base_name(plan.choice.model)} {plan.origin.address}".lower()
        short = base_name(plan.choice.model).startswith(MISTRAL) or "mistral.ai" in named
        self._id = short_id if short else portable_id

    def messages(self, messages: Iterable[Message]) -> list[Json]:
        items = list(messages)
        current = max((n for n, one in enumerate(items) if isinstance(one, UserMessage)), default=0)
        sent: list[Json] = []
        for number, message in enumerate(items):
            if isinstance(message, UserMessage):
                self._add_user(sent, message.text)
            elif isinstance(message, ToolResults):
                sent.extend(self._results(message))
            else:
                self._add_reply(sent, message, number > current)
        return sent

    def _add_user(self, sent: list[Json], text: str) -> None:
        if sent and sent[-1]["role"] == "user":
            sent[-1]["content"] = f"{sent[-1]['content']}\n\n{text}"
            return
        if sent and sent[-1]["role"] == "tool":
            sent.append({"role": "assistant", "content": TURN_ENDED})
        sent.append({"role": "user", "content": text})

    def _results(self, message: ToolResults) -> list[Json]:
        return [
            {"role": "tool", "tool_call_id": self._id(one.id), "content": one.text or NO_OUTPUT}
            for one in message.results
        ]

    def _add_reply(self, sent: list[Json], reply: ModelReply, current: bool) -> None:
        own = self._origin.is_origin_of(reply)
        text = reply.text
        calls = [self._call(part, own) for part in reply.calls]
        if not text.strip() and not calls:
            return
        last = sent[-1] if sent else None
        if last is not None and last["role"] == "assistant" and "tool_calls" not in last:
            last["content"] = "\n\n".join(filter(None, (last["content"], text)))
            message = last
        else:
            message = {"role": "assistant", "content": text if text.strip() else None}
            sent.append(message)
        if calls:
            message["tool_calls"] = calls
        if own and current and calls:
            message |= self._reasoning(reply)

    def _call(self, part: ReplyToolCall, own: bool) -> Json:
        arguments = json.dumps(as_object(part.input), ensure_ascii=False, separators=(",", ":"))
        call: Json = {
            "id": self._id(part.id),
            "type": "function",
            "function": {"name": part.tool, "arguments": arguments},
        }
        if own and part.native and "extra_content" not in self._omitted:
            call |= part.native
        return call

    def _reasoning(self, reply: ModelReply) -> Json:
        """What a reasoning model wants to see again until its calls have led to an answer."""
        found: Json = {}
        for part in reply.parts:
            if not isinstance(part, ReplyThinking) or not part.native:
                continue
            field = part.native.get("field")
            if isinstance(field, str) and field not in self._omitted:
                found[field] = found.get(field, "") + part.text
            details = part.native.get("reasoning_details")
            if details and "reasoning_details" not in self._omitted:
                found["reasoning_details"] = details
        return found


class _Call:
    """One tool call while it comes."""

    def __init__(self, index: object) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self.arguments = ""
        self.native: Json = {}

    def part(self, cut: bool) -> ReplyToolCall:
        nothing = cut and not self.arguments.strip()
        sent = "" if nothing else parse_arguments(self.arguments)
        return ReplyToolCall(self.id, self.name, sent, self.native or None)


class ToolCallAssembler:
    """Calls from fragments.

    By the API a call's first fragment has its index, id and name, and later ones its index alone.
    Servers leave out indexes or ids, give every call the index 0, repeat id and name in every
    fragment, give two calls the same id, or send arguments as an object. So: an id that is new
    begins a call; so does a fragment of a call whose arguments are complete already; a repeated
    name is not appended.
    """

    def __init__(self, tools: set[str]) -> None:
        self.calls: list[_Call] = []
        self._tools = tools

    def add(self, fragment: Mapping[str, Any]) -> None:
        function = fragment.get("function")
        function = function if isinstance(function, Mapping) else fragment
        call_id = fragment.get("id")
        call_id = call_id if isinstance(call_id, str) else ""
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping | list):
            arguments = json.dumps(arguments)
        arguments = arguments if isinstance(arguments, str) else ""
        call = self._find(fragment.get("index"), call_id, name, arguments)
        call.id = call.id or call_id
        self._add_name(call, name)
        call.arguments += arguments
        if isinstance(fragment.get("extra_content"), Mapping):
            call.native["extra_content"] = fragment["extra_content"]

    def _find(self, index: object, call_id: str, name: str, arguments: str) -> _Call:
        found = self._same(index, call_id, name)
        if found is None or self._is_another(found, name, arguments):
            found = _Call(index)
            self.calls.append(found)
        return found

    def _same(self, index: object, call_id: str, name: str) -> _Call | None:
        """The call that a fragment seems to belong to."""
        for call in reversed(self.calls):
            if index is not None and call.index is not None and call.index != index:
                continue
            if call_id and call.id and call.id != call_id:
                continue
            if call_id and not call.id and index is None and call.arguments:
                continue
            if call_id and call.id == call_id:
                return call
            if index is None and call is not self.calls[-1]:
                return None
            return call
        return None

    def _is_another(self, call: _Call, name: str, arguments: str) -> bool:
        """Whether the fragment begins a call of its own although nothing else tells them apart."""
        return bool(name) and is_whole(call.arguments) and bool(arguments.strip())

    def _add_name(self, call: _Call, name: str) -> None:
        if not name or name == call.name:
            return
        if not call.name:
            call.name = name
        elif not call.arguments and call.name not in self._tools:
            call.name += name  # a name that comes in pieces


class _ThinkTags:
    """Thinking that a server leaves in the text: ``<think>`` … ``</think>`` at its very
    beginning."""

    BEGIN, END = "<think>", "</think>"

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""

    def split(self, text: str) -> Iterable[Delta]:
        if self._state == "text":
            yield ModelText(text)
            return
        self._held += text
        if self._state == "start":
            stripped = self._held.lstrip()
            if self.BEGIN.startswith(stripped):
                return
            if not stripped.startswith(self.BEGIN):
                yield from self._all_text()
                return
            self._state, self._held = "thinking", stripped.removeprefix(self.BEGIN)
        yield from self._thinking()

    def end(self) -> Iterable[Delta]:
        """What was held back because more could have come."""
        held, self._held = self._held, ""
        if held:
            yield ModelThinking(held) if self._state == "thinking" else ModelText(held)

    def _all_text(self) -> Iterable[Delta]:
        self._state, held, self._held = "text", self._held, ""
        if held:
            yield ModelText(held)

    def _thinking(self) -> Iterable[Delta]:
        inside, found, after = self._held.partition(self.END)
        if found:
            self._held = after.lstrip("\n")
            if inside:
                yield ModelThinking(inside)
            yield from self._all_text()
            return
        keep = next(
            (n for n in range(len(self.END) - 1, 0, -1) if inside.endswith(self.END[:n])), 0
        )
        shown, self._held = inside[: len(inside) - keep], inside[len(inside) - keep :]
        if shown:
            yield ModelThinking(shown)


class OpenAiReader:
    """Implements :class:`~.wire.ReplyReader`."""

    def __init__(self, origin: Origin, tools: set[str]) -> None:
        self._origin = origin
        self._usage = UsageMeter()
        self._calls = ToolCallAssembler(tools)
        self._tags = _ThinkTags()
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._field = ""
        self._details: list[Any] = []
        self._refusal = ""
        self._model = ""
        self._finish: str | None = None
        self._ended = False

    def read_event(self, data: Json) -> Iterable[Delta]:
        yield from self._read(data, "delta")

    def read_whole(self, body: Json) -> Iterable[Delta]:
        yield from self._read(body, "message")
        self._ended = True

    def mark_ended(self) -> None:
        self._ended = True

    def _read(self, data: Json, member: str) -> Iterable[Delta]:
        self._model = str(data.get("model") or self._model)
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        self._report(data.get("usage"))
        if not isinstance(choice, Mapping):
            return
        self._report(choice.get("usage"))
        message = choice.get(member) or choice.get("message") or choice.get("delta")
        if isinstance(message, Mapping):
            yield from self._read_message(message)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish.lower()

    def _report(self, usage: object) -> None:
        """The API counts cached tokens into the prompt's; they are taken apart at the end."""
        cached = tokens(usage, "prompt_tokens_details", "cached_tokens") or tokens(
            usage, "prompt_cache_hit_tokens"
        )
        sent = tokens(usage, "prompt_tokens")
        self._usage.report(TokenCounts(sent, tokens(usage, "completion_tokens"), cached))

    def _read_message(self, message: Mapping[str, Any]) -> Iterable[Delta]:
        yield from self._read_reasoning(message)
        yield from self._keep(self._content(message.get("content")))
        if isinstance(message.get("refusal"), str):
            self._refusal += message["refusal"]
        calls = message.get("tool_calls")
        for fragment in calls if isinstance(calls, list) else ():
            if isinstance(fragment, Mapping):
                self._calls.add(fragment)
        if isinstance(message.get("function_call"), Mapping):
            self._calls.add({"index": 0, "function": message["function_call"]})

    def _read_reasoning(self, message: Mapping[str, Any]) -> Iterable[Delta]:
        details = message.get("reasoning_details")
        if isinstance(details, list):
            self._details += details
        for field in REASONING:
            if isinstance(message.get(field), str) and message[field]:
                self._field = self._field or field
                yield from self._keep([ModelThinking(message[field])])
                return

    def _content(self, content: object) -> Iterable[Delta]:
        if isinstance(content, str) and content:
            yield from self._tags.split(content)
        for block in content if isinstance(content, list) else ():  # Mistral's reasoning models
            if not isinstance(block, Mapping):
                continue
            if isinstance(block.get("text"), str) and block["text"]:
                yield ModelText(block["text"])
            inner = block.get("thinking")
            if isinstance(inner, str):
                inner = [{"text": inner}]
            for piece in inner if isinstance(inner, list) else ():
                if isinstance(piece, Mapping) and isinstance(piece.get("text"), str):
                    yield ModelThinking(piece["text"])

    def _keep(self, deltas: Iterable[Delta]) -> Iterable[Delta]:
        for delta in deltas:
            kept = self._text if isinstance(delta, ModelText) else self._thinking
            kept.append(delta.text)
            yield delta

    def flush_pending(self) -> Iterable[Delta]:
        return self._keep(self._tags.end())

    def reply(self) -> ModelReply:
        finish = self._finish
        if not (self._ended or finish):
            raise ModelError("The answer ended before it was complete.", retryable=True)
        if finish in REFUSED:
            raise ModelError(f"It stopped its answer ({finish.replace('_', ' ')}).")
        if self._refusal.strip():
            raise ModelError(f"It refused to answer: {self._refusal.strip()}")
        if finish in FAILED:
            raise ModelError(f"It ended its answer with an error ({finish}).", retryable=True)
        cut = finish in CUT
        return ModelReply(
            tuple(self._parts(cut)),
            self._model,
            self._tokens(),
            self._origin.as_native(),
            cut=cut,
        )

    def _tokens(self) -> TokenCounts:
        seen = self._usage.seen
        return replace(seen, input=max(seen.input - seen.cache_read, 0))

    def _parts(self, cut: bool) -> Iterable[Part]:
        if self._thinking or self._details:
            native: Json = {"field": self._field} if self._field else {}
            if self._details:
                native["reasoning_details"] = self._details
            yield ReplyThinking("".join(self._thinking), native or None)
        if self._text:
            yield ReplyText("".join(self._text))
        last = len(self._calls.calls) - 1
        for number, call in enumerate(self._calls.calls):
            if call.name or call.arguments:
                yield call.part(cut and number == last)
