"""Turns as a notebook (nbformat 4.5): messages as Markdown, shell commands as code with output.

A code cell holds the very command, so that it can be run again by whoever decides to. It is not run
by chance: it carries the tag ``skip-execution``, which nbclient, nbconvert and papermill obey, and
the first cell says where its output came from. Cell ids are made of the turn's id and the part's
number, so the same turns make the same notebook.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from .escape import clean, strip_escape_sequences, truncate_middle
from .labels import end, heading, speaker
from .markdown import DOCUMENT, is_shell, parts_blocks
from .markdown_sanitizer import blockquote
from .turn import VERSION, Header, ToolPart, TranscriptTurn

SKIP_EXECUTION = "skip-execution"
RUN_ELSEWHERE = (
    "Cells with `%%bash` hold commands that the agent ran in its sandbox, and what they put out "
    "there. Running such a cell runs the command here, as you."
)


class NotebookRenderer:
    """The document for Jupyter."""

    media_type: ClassVar[str] = "application/x-ipynb+json"

    def __init__(self) -> None:
        self._count = 0

    def head(self, head: Header) -> str:
        metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "loopat": {"version": VERSION, "loop_id": head.loop_id, "seq": head.seq},
        }
        first = _markdown_cell("loopat-head", "head", f"{heading(head)}\n\n{RUN_ELSEWHERE}")
        return (
            f'{{"nbformat": 4, "nbformat_minor": 5, "metadata": {_json(metadata)},\n'
            f'"cells": [\n{_json(first)}'
        )

    def turn(self, turn: TranscriptTurn) -> str:
        return "".join(f",\n{_json(cell)}" for cell in self._cells(turn))

    def tail(self) -> str:
        return "\n]}\n"

    def _cells(self, turn: TranscriptTurn) -> Iterator[dict[str, Any]]:
        message = f"{speaker(turn)}\n\n{blockquote(turn.message)}"
        yield _markdown_cell(f"{turn.turn_id}-message", "message", message)
        hidden_calls = turn.question_calls()
        for number, part in enumerate(turn.parts):
            if isinstance(part, ToolPart) and is_shell(part):
                self._count += 1
                yield _code_cell(f"{turn.turn_id}-{number}", part, self._count)
            elif blocks := list(parts_blocks([part], hidden_calls)):
                yield _markdown_cell(f"{turn.turn_id}-{number}", part.type, "\n\n".join(blocks))
        yield _markdown_cell(f"{turn.turn_id}-end", "end", end(turn))


def _markdown_cell(cell_id: str, part: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "markdown",
        "id": cell_id,
        "metadata": {"loopat": {"part": part}},
        "source": text.splitlines(keepends=True),
    }


def _code_cell(cell_id: str, call: ToolPart, count: int) -> dict[str, Any]:
    outputs = []
    if call.result:
        text = truncate_middle(strip_escape_sequences(call.result), DOCUMENT.detail_limit)
        outputs.append(
            {
                "output_type": "stream",
                "name": "stderr" if call.ok is False else "stdout",
                "text": clean(text).splitlines(keepends=True),
            }
        )
    return {
        "cell_type": "code",
        "id": cell_id,
        "metadata": {"loopat": {"part": "shell", "ok": call.ok}, "tags": [SKIP_EXECUTION]},
        "execution_count": count,
        "source": f"%%bash\n{clean(call.input['command'])}".splitlines(keepends=True),
        "outputs": outputs,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
