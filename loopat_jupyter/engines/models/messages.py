"""The messages of a conversation with a model, and the entries of a turn's journal.

The turn loop, the demo model, the history and the context window work on these classes. A
provider's own format exists only in its adapter; what an adapter needs back later (a thinking
signature, say) is kept in ``native`` and is opaque here.

A journal is a list of JSON objects, distinguished by ``type`` (the first two are also what watchers
get as the engine's raw messages):

* ``response``: a reply of the model; its parts, and the usage the provider reported;
* ``result``: one tool call of the last response has its result;
* ``network``: what came of the destinations that a call of the last response was refused;
* ``started``: these calls were allowed to run while a person was being asked about another one;
* ``compaction``: from here on, so much of the conversation is left out (see
  :mod:`..builtin.context_window`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...loops.ports.engine import DeniedBy

Native = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReplyText:
    text: str
    native: Native | None = None


@dataclass(frozen=True, slots=True)
class ReplyThinking:
    text: str
    native: Native | None = None


@dataclass(frozen=True, slots=True)
class ReplyToolCall:
    """A call as the model sent it; ``input`` is a string where it is no JSON object."""

    id: str
    tool: str
    input: Mapping[str, Any] | str
    native: Native | None = None


Part = ReplyText | ReplyThinking | ReplyToolCall


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What the provider reported for one call. ``input`` does not count the cached tokens."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def context(self) -> int:
        """How much of the model's window the call took, its reply included."""
        return self.input + self.cache_read + self.cache_write + self.output


@dataclass(frozen=True, slots=True)
class ModelReply:
    """One reply of a model.

    ``native``: the API, address and model that made it. ``estimate`` is how large the request was
    taken to be, in tokens. ``cut``: it ends at the model's output limit, not where the model
    wanted. ``paused``: the provider wants to be called again with it, to continue.
    """

    parts: tuple[Part, ...]
    model: str = ""
    tokens: TokenCounts = field(default_factory=TokenCounts)
    native: Native | None = None
    estimate: int = 0
    cut: bool = False
    paused: bool = False

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, ReplyText))

    @property
    def calls(self) -> tuple[ReplyToolCall, ...]:
        return tuple(part for part in self.parts if isinstance(part, ReplyToolCall))


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """The result of one call, as the model sees it."""

    id: str
    tool: str
    ok: bool
    text: str
    refused: tuple[str, ...] = ()
    """Destinations it was refused, about which the person has not been asked yet."""
    denied_by: DeniedBy | None = None
    """Who denied the call, where it did not run for that reason."""


@dataclass(frozen=True, slots=True)
class UserMessage:
    text: str
    current: bool = False
    """The message of the running turn: it is never left out."""


@dataclass(frozen=True, slots=True)
class ToolResults:
    """All results of one response's calls, in the order of the calls."""

    results: tuple[ToolResultPart, ...]


Message = UserMessage | ModelReply | ToolResults


@dataclass(slots=True)
class ModelStep:
    """One reply, and the results of its calls so far."""

    response: ModelReply
    results: dict[str, ToolResultPart] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)

    @property
    def open_calls(self) -> list[ReplyToolCall]:
        return [call for call in self.response.calls if call.id not in self.results]

    def add_network_note(self, call_id: str, note: str) -> None:
        """Append the outcome of a call's refused destinations to its result."""
        result = self.results[call_id]
        self.results[call_id] = replace(result, text=f"{result.text}\n{note}", refused=())

    def messages(self) -> list[Message]:
        """The step as messages to a model. Every call must have its result."""
        answered = tuple(self.results[call.id] for call in self.response.calls)
        return [self.response, ToolResults(answered)] if answered else [self.response]


def visible_text(responses: Iterable[ModelReply]) -> str:
    """The text of a turn's replies, as the person saw it: with nothing between them."""
    return "".join(response.text for response in responses)


def response_entry(response: ModelReply) -> dict[str, Any]:
    tokens = response.tokens
    entry: dict[str, Any] = {
        "type": "response",
        "model": response.model,
        "parts": [_part_entry(part) for part in response.parts],
        "tokens": [tokens.input, tokens.output, tokens.cache_read, tokens.cache_write],
        "estimate": response.estimate,
    }
    entry |= {name: True for name in ("cut", "paused") if getattr(response, name)}
    return entry if response.native is None else {**entry, "native": dict(response.native)}


def result_entry(result: ToolResultPart) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "result",
        "id": result.id,
        "tool": result.tool,
        "ok": result.ok,
        "text": result.text,
    }
    if result.refused:
        entry["refused"] = list(result.refused)
    if result.denied_by is not None:
        entry["denied_by"] = result.denied_by
    return entry


def network_entry(call_id: str, note: str) -> dict[str, Any]:
    return {"type": "network", "id": call_id, "note": note}


@dataclass(frozen=True, slots=True)
class Compaction:
    """How much of the turns that were read is left out: their first so many tool results, counted
    through all of these turns, and the first so many turns."""

    results: int = 0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class CompactionRecord:
    """A compaction as a journal keeps it: by turn, so that later turns need not read further back.

    ``first_turn`` is the oldest turn that is sent, empty for the loop's first one; ``turns`` is
    how many come before it. ``results`` tool results are left out, counted from ``first_turn``.
    """

    first_turn: str = ""
    turns: int = 0
    results: int = 0


def compaction_entry(record: CompactionRecord) -> dict[str, Any]:
    return {
        "type": "compaction",
        "first_turn": record.first_turn,
        "turns": record.turns,
        "results": record.results,
    }


def read_compaction(journal: Iterable[Mapping[str, Any]]) -> CompactionRecord | None:
    """The last compaction that a journal records."""
    found = [entry for entry in journal if entry["type"] == "compaction" and "first_turn" in entry]
    if not found:
        return None
    last = found[-1]
    return CompactionRecord(last["first_turn"], last["turns"], last["results"])


def is_journal(journal: Iterable[Mapping[str, Any]]) -> bool:
    """Whether this engine wrote the journal."""
    known = ("response", "result", "network", "started", "compaction")
    return all(entry.get("type") in known for entry in journal)


def started_entry(ids: Iterable[str]) -> dict[str, Any]:
    return {"type": "started", "ids": list(ids)}


def read_journal(journal: Iterable[Mapping[str, Any]]) -> list[ModelStep]:
    """The steps that a journal records, oldest first."""
    steps: list[ModelStep] = []
    for entry in journal:
        if entry["type"] == "response":
            steps.append(ModelStep(_read_response(entry)))
        elif entry["type"] == "result":
            result = ToolResultPart(
                entry["id"],
                entry["tool"],
                entry["ok"],
                entry["text"],
                tuple(entry.get("refused", ())),
                entry.get("denied_by"),
            )
            steps[-1].results[result.id] = result
        elif entry["type"] == "network":
            steps[-1].add_network_note(entry["id"], entry["note"])
        elif entry["type"] == "started":
            steps[-1].started.update(entry["ids"])
    return steps


_KINDS: dict[type[Part], Literal["text", "thinking", "call"]] = {
    ReplyText: "text",
    ReplyThinking: "thinking",
    ReplyToolCall: "call",
}


def _part_entry(part: Part) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": _KINDS[type(part)]}
    if isinstance(part, ReplyToolCall):
        sent = part.input if isinstance(part.input, str) else dict(part.input)
        entry |= {"id": part.id, "tool": part.tool, "input": sent}
    else:
        entry["text"] = part.text
    return entry if part.native is None else {**entry, "native": dict(part.native)}


def _read_response(entry: Mapping[str, Any]) -> ModelReply:
    return ModelReply(
        tuple(_read_part(part) for part in entry["parts"]),
        entry["model"],
        TokenCounts(*entry["tokens"]),
        entry.get("native"),
        entry["estimate"],
        entry.get("cut", False),
        entry.get("paused", False),
    )


def _read_part(entry: Mapping[str, Any]) -> Part:
    native = entry.get("native")
    if entry["kind"] == "call":
        return ReplyToolCall(entry["id"], entry["tool"], entry["input"], native)
    if entry["kind"] == "thinking":
        return ReplyThinking(entry["text"], native)
    return ReplyText(entry["text"], native)
