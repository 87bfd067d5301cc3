"""The story as a notebook (nbformat 4.5): messages as Markdown, shell commands as code with output.

A code cell holds the very command, so that it can be run again by whoever decides to. It is not run
by chance: it carries the tag ``skip-execution``, which nbclient, nbconvert and papermill heed, and
the first cell says where its output came from. Cell ids follow from turns and places, so the same
story makes the same notebook.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .escape import capped, clean
from .labels import end, heading, speaker
from .markdown import is_shell, part_blocks
from .markdown_sanitizer import blockquote
from .turn import VERSION, Header, Part, TextPart, ToolPart, TranscriptTurn

MEDIA_TYPE = "application/x-ipynb+json"
SKIP = "skip-execution"
RUN_ELSEWHERE = (
    "Cells with `%%bash` hold commands that the agent ran in its sandbox, and what they put out "
    "there. Running such a cell runs the command here, as you."
)


class NotebookRenderer:
    def __init__(self) -> None:
        self._count = 0

    def head(self, head: Header) -> str:
        metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "loopat": {"version": VERSION, "loop_id": head.loop_id, "seq": head.seq},
        }
        first = _markdown("loopat-head", "head", f"{heading(head)}\n\n{RUN_ELSEWHERE}")
        return (
            f'{{"nbformat": 4, "nbformat_minor": 5, "metadata": {_json(metadata)},\n'
            f'"cells": [\n{_json(first)}'
        )

    def turn(self, story: TranscriptTurn) -> str:
        cells = self._cells(story)
        return "".join(f",\n{_json(cell)}" for cell in cells)

    def tail(self) -> str:
        return "\n]}\n"

    def _cells(self, story: TranscriptTurn) -> Iterator[dict[str, Any]]:
        name = story.turn_id
        message = f"{speaker(story)}\n\n{blockquote(story.message)}"
        yield _markdown(f"{name}-message", "message", message)
        for place, part in enumerate(story.parts):
            if isinstance(part, ToolPart) and is_shell(part):
                self._count += 1
                yield _code(f"{name}-{place}", part, self._count)
                continue
            blocks = list(part_blocks(part, story))
            if blocks:
                yield _markdown(f"{name}-{place}", _kind(part), "\n\n".join(blocks))
        yield _markdown(f"{name}-end", "end", end(story))


def _kind(part: Part) -> str:
    return (
        part.type if isinstance(part, TextPart) else {"tool": "tool", "choice": "choice"}[part.type]
    )


def _markdown(ident: str, kind: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "markdown",
        "id": ident,
        "metadata": {"loopat": {"part": kind}},
        "source": text.splitlines(keepends=True),
    }


def _code(ident: str, call: ToolPart, count: int) -> dict[str, Any]:
    command = clean(call.input["command"])
    outputs = []
    if call.result:
        text = clean(capped(call.result))
        stream = "stderr" if call.ok is False else "stdout"
        lines = text.splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": stream, "text": lines})
    return {
        "cell_type": "code",
        "id": ident,
        "metadata": {"loopat": {"part": "shell", "ok": call.ok}, "tags": [SKIP]},
        "execution_count": count,
        "source": f"%%bash\n{command}".splitlines(keepends=True),
        "outputs": outputs,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
