"""What a turn is made of, and how each part is written in Markdown.

Everything that an agent or a person wrote goes through ``client._markdown``; what is added here
is the few words around it. Each part is bounded, and says what it leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopat_jupyter.client import Usage
from loopat_jupyter.client._markdown import code_span, fenced, safe_markdown, shortened, words

THINKING_LIMIT = 8_000
"""Characters of a turn's thinking."""
DETAIL_LIMIT = 4_000
"""Characters of a tool's input and of its result, each."""
DETAILS_LIMIT = 60_000
"""The same of all the tools of a turn together."""
SUMMARY_LIMIT = 100
"""Characters of a tool's input in the line that stands for the call."""
PARTS_LIMIT = 120
"""Parts of a turn that are shown; of more the middle is counted."""
MARKS = {True: "✓", False: "✗", None: "…"}
_BY = {"api": " by a program", "web": " in a session", "policy": " by the server"}


@dataclass(slots=True)
class Said:
    """A stretch of the agent's text, or of its thinking."""

    thinking: bool
    pieces: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, text: str) -> None:
        self.pieces.append(text)
        self.size += len(text)

    def markdown(self, share: float = 1.0) -> str:
        """``share`` of the text: all of it, or less where a turn says more than is shown."""
        self.pieces = [text := "".join(self.pieces)]
        shown = safe_markdown(shortened(text, int(self.size * share)) if share < 1 else text)
        return folded("thinking", shown) if self.thinking else shown


@dataclass(slots=True)
class Called:
    """A tool call. ``input`` and ``result`` are known when the turn has ended."""

    tool: str
    summary: str | None
    ok: bool | None = None
    input: Any = None
    result: str | None = None

    @property
    def _shown(self) -> str:
        return code_span(self.summary or "", SUMMARY_LIMIT)

    @property
    def title(self) -> str:
        return f"{MARKS[self.ok]} **{words(self.tool, 60)}** {self._shown}"

    def markdown(self, limit: int = DETAIL_LIMIT) -> str:
        """The call, folded, with what went in and came out; a line while that is not known."""
        if self.result is None:
            return f"- {self.title}".rstrip()
        given = self.input if isinstance(self.input, Mapping) else {}
        command = given.get("command")
        blocks = []
        if isinstance(command, str):
            blocks.append(fenced(shortened(command, limit), "bash"))
        elif given:
            shown = json.dumps(given, ensure_ascii=False, indent=2, default=str)
            blocks.append(fenced(shortened(shown, limit), "json"))
        blocks.append(fenced(shortened(self.result, limit)))
        title = f"{MARKS[self.ok]} <b>{words(self.tool, 60)}</b> {self._shown}"
        return folded(title, "\n".join(blocks))


@dataclass(slots=True)
class Asked:
    """A choice: what was asked, and what became of it."""

    kind: str
    payload: Mapping[str, Any]
    outcome: str | None = None
    source: str | None = None
    answers: Mapping[str, Any] | None = None

    def markdown(self) -> str:
        lines = self._questions() if self.kind == "question" else self._permission()
        end = "waits for a person"
        if self.outcome is not None:
            end = f"{words(self.outcome)}{_BY.get(self.source or '', '')}"
        return "\n".join([*lines, "", f"*{end}*"])

    def _permission(self) -> Iterable[str]:
        tool = str(self.payload.get("display_name") or self.payload.get("tool") or "")
        yield f"> may **{words(tool, 60)}** run?"
        if command := self.payload.get("command"):
            yield fenced(shortened(str(command), DETAIL_LIMIT), "bash")

    def _questions(self) -> Iterable[str]:
        answers = self.answers or {}
        for question in self.payload.get("questions") or ():
            text = str(question.get("question"))
            yield f"> **{words(text)}**"
            given = answers.get(question.get("id"), answers.get(text))
            if given is not None:
                said = given if isinstance(given, list) else [given]
                yield "> " + ", ".join(words(str(one)) for one in said)


Part = Said | Called | Asked


def parts_markdown(parts: Sequence[Part], text_limit: int) -> list[str]:
    """The parts in their order; ``text_limit`` characters of the agent's text in all."""
    half = PARTS_LIMIT // 2
    cut = len(parts) - 2 * half
    shown = [*parts[:half], *parts[-half:]] if cut > 0 else list(parts)
    speech = _share(shown, False, text_limit)
    thought = _share(shown, True, THINKING_LIMIT)
    calls = sum(isinstance(part, Called) for part in shown)
    detail = min(DETAIL_LIMIT, DETAILS_LIMIT // (2 * calls)) if calls else DETAIL_LIMIT
    blocks: list[str] = []
    for at, part in enumerate(shown):
        if cut > 0 and at == half:
            blocks.append(f"*… {cut} more steps …*")
        if isinstance(part, Said):
            blocks.append(part.markdown(thought if part.thinking else speech))
        elif isinstance(part, Called):
            blocks.append(part.markdown(detail))
        else:
            blocks.append(part.markdown())
    return blocks


def _share(parts: Sequence[Part], thinking: bool, limit: int) -> float:
    size = sum(p.size for p in parts if isinstance(p, Said) and p.thinking is thinking)
    return min(1.0, limit / size) if size else 1.0


def folded(title: str, body: str) -> str:
    """``body`` below a title that opens it; ``title`` is HTML of ours."""
    inside = body.strip("\n")
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"


def usage_words(usage: Usage | None) -> str:
    if usage is None:
        return ""
    cost = "" if usage.cost_usd is None else f" · &#36;{usage.cost_usd:.4f}"
    return f" · {usage.input_tokens} tokens in, {usage.output_tokens} out{cost}"
