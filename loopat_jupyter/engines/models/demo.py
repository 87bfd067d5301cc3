"""The model ``demo``: offline, deterministic, without a key, for trying everything else.

It knows a handful of commands and responds to them with real tool calls, which go through
permissions, journal and sandbox like those of any other model. What it does follows from the
conversation alone: the last message is either the user's (then it acts on it) or the results of
its own calls (then it reports them).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .messages import (
    Message,
    ModelReply,
    Part,
    ReplyText,
    ReplyThinking,
    ReplyToolCall,
    TokenCounts,
    ToolResultPart,
    ToolResults,
    UserMessage,
)
from .port import ModelRequest, ModelText, ModelThinking, OnDelta

INTRODUCTION = """\
I am **demo**, loopat's built-in offline model: no key, no network, no real intelligence, \
but real tools in this loop's real sandbox. I understand:

- `!COMMAND` runs a shell command
- `read PATH` shows a file
- `write PATH: TEXT` writes a file
- `ask QUESTION | A | B` asks you a question
- `think TEXT` thinks aloud
- `count N` counts slowly, so that you can watch or interrupt me

To use a real model, describe its provider in `config.json`.

"""
NOT_UNDERSTOOD = ReplyText(
    "I can only do a few things: try `!ls -la`, `read notes.txt`, `write notes.txt: hello`, "
    "`ask Tea or coffee? | Tea | Coffee`, `think hard` or `count 5`.\n"
)
COUNT_INTERVAL = 0.05
COUNT_LIMIT = 10_000
REPORT_LIMIT = 4_000
_CHUNK = re.compile(r"\S*\s*", re.DOTALL)
_WRITE = re.compile(r"write\s+([^:\n]+):[ \t]?(.*)", re.DOTALL | re.IGNORECASE)
_WORD = re.compile(r"(read|ask|think|count)\s+(.+)", re.DOTALL | re.IGNORECASE)


class DemoModel:
    """See the module. ``pace`` is the time between two numbers of ``count``, in seconds."""

    name = "demo/demo"
    window = 200_000

    def __init__(self, pace: float = COUNT_INTERVAL) -> None:
        self._pace = pace

    async def complete(self, request: ModelRequest, show: OnDelta) -> ModelReply:
        parts: list[Part] = []
        for part in self._answer(request.messages):
            if isinstance(part, ReplyToolCall):
                parts.append(part)
                continue
            thinks = isinstance(part, ReplyThinking)
            for chunk in _chunks(part.text):
                await show(ModelThinking(chunk) if thinks else ModelText(chunk))
            parts.append(part)
        number = _count_of(request.messages)
        if number is not None:
            counted = ""
            for index in range(1, number + 1):
                line = f"{index}\n"
                await show(ModelText(line))
                counted += line
                await asyncio.sleep(self._pace)
            parts.append(ReplyText(counted))
        return ModelReply(tuple(parts), self.name, _tokens(request, parts))

    def _answer(self, messages: Sequence[Message]) -> list[Part]:
        """Everything but the counting, which takes its time."""
        last = messages[-1]
        if isinstance(last, ToolResults):
            return [ReplyText(_report(result)) for result in last.results]
        message_text = last.text.strip() if isinstance(last, UserMessage) else ""
        parts = _act(message_text, turn=len(messages))
        if any(isinstance(message, ModelReply) for message in messages):
            return parts
        return [ReplyText(INTRODUCTION), *(part for part in parts if part != NOT_UNDERSTOOD)]


def _act(message_text: str, turn: int) -> list[Part]:
    if message_text.startswith("!") and message_text[1:].strip():
        return _call("Bash", {"command": message_text[1:].strip()}, turn)
    if match := _WRITE.match(message_text):
        return _call("Write", {"file_path": match[1].strip(), "content": match[2]}, turn)
    if not (match := _WORD.match(message_text)):
        return [NOT_UNDERSTOOD]
    word, rest = match[1].lower(), match[2].strip()
    if word == "read":
        return _call("Read", {"file_path": rest}, turn)
    if word == "ask":
        return _ask(rest, turn)
    if word == "think":
        return [ReplyThinking(rest), ReplyText(f"I have thought about it: {rest}\n")]
    return [] if _number(rest) is not None else [NOT_UNDERSTOOD]


def _call(tool: str, tool_input: Mapping[str, Any], turn: int) -> list[Part]:
    seed = f"{turn}:{tool}:{sorted(tool_input)}"
    return [
        ReplyToolCall(f"toolu_{hashlib.sha256(seed.encode()).hexdigest()[:24]}", tool, tool_input)
    ]


def _ask(rest: str, turn: int) -> list[Part]:
    question, *labels = [piece.strip() for piece in rest.split("|")]
    labels = list(dict.fromkeys(label for label in labels if label))
    if not question or len(labels) < 2:
        return [
            ReplyText(
                "A question needs two answers at least: `ask Tea or coffee? | Tea | Coffee`.\n"
            )
        ]
    options = [{"label": label, "description": ""} for label in labels]
    asked = {
        "question": question,
        "header": "Question",
        "options": options,
        "multiSelect": False,
    }
    return _call("AskUserQuestion", {"questions": [asked]}, turn)


def _report(result: ToolResultPart) -> str:
    text = result.text.rstrip("\n")
    if len(text) > REPORT_LIMIT:
        text = f"{text[:REPORT_LIMIT]}\n… ({len(text) - REPORT_LIMIT} more characters)"
    if result.denied_by == "user":
        return f"You denied it, so {result.tool} did not run.\n"
    if result.denied_by == "policy":
        return f"This permission mode does not let {result.tool} run.\n"
    if result.tool == "AskUserQuestion":
        return f"Thank you. {text}\n" if result.ok else f"I could not ask: {text}\n"
    outcome = "finished" if result.ok else "failed"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    shown = f":\n\n{fence}\n{text}\n{fence}\n" if text else " without output.\n"
    return f"{result.tool} {outcome}{shown}"


def _count_of(messages: Sequence[Message]) -> int | None:
    last = messages[-1]
    match = _WORD.match(last.text.strip()) if isinstance(last, UserMessage) else None
    if match is None or match[1].lower() != "count":
        return None
    return _number(match[2].strip())


def _number(text: str) -> int | None:
    if not re.fullmatch(r"[0-9]{1,5}", text):
        return None
    number = int(text)
    return number if number <= COUNT_LIMIT else None


def _chunks(text: str, words: int = 4) -> list[str]:
    """``text`` in pieces of a few words, so that it streams like a real model's."""
    pieces = [piece for piece in _CHUNK.findall(text) if piece]
    return ["".join(pieces[start : start + words]) for start in range(0, len(pieces), words)]


def _tokens(request: ModelRequest, parts: Sequence[Part]) -> TokenCounts:
    """An estimate of four characters a token; the same conversation gives the same counts."""
    sent = len(request.instructions) + sum(len(repr(message)) for message in request.messages)
    answered = sum(len(repr(part)) for part in parts)
    return TokenCounts(input=sent // 4 + 1, output=answered // 4 + 1)
