"""Who decides when the agent asks while a cell runs.

``auto``  shows a prompt if a person is there; else ``fail``
``ask``   asks by text, below the cell or in the terminal
``wait``  goes on reading; the choice is resolved elsewhere, in a chat or by a program
``fail``, ``deny``, ``allow``  as in the client

A person is there if the front end that asked to run the cell takes input (``allow_stdin``):
JupyterLab and Notebook do, nbclient and papermill do not; without a kernel, if IPython runs in a
terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.display import display

from loopat_jupyter.client import Choice, Decision, OnChoice
from loopat_jupyter.notebook.output import request
from loopat_jupyter.transcript.escape import show_control_characters, truncate_middle

if TYPE_CHECKING:
    from ._interrupt import Interrupting

INPUT_LIMIT = 20_000
"""Characters of a tool's input that are shown; of a longer one its head and tail."""

Show = Callable[[Choice], None]
"""Shows a prompt in the front end."""


class Prompts:
    """The prompts of one turn, each shown once, and removed when the turn has ended.

    The browser posts the person's answer to the server itself, so the kernel need not be free. The
    transcript says what was decided; a widget in a saved notebook would show nothing.
    """

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Any, Any]] = {}

    def show(self, choice: Choice) -> None:
        """Show the prompt below what the cell has shown so far."""
        from loopat_jupyter.notebook.widgets import ChoicePrompt

        if choice.id not in self._shown:
            prompt = ChoicePrompt(choice)
            self._shown[choice.id] = prompt, display(prompt, display_id=True)

    def close(self) -> None:
        """Remove every prompt from the output."""
        for prompt, handle in self._shown.values():
            prompt.close()
            handle.update({"text/plain": ""}, raw=True)
        self._shown.clear()


def is_attended() -> bool:
    """Whether there is a person who can be asked."""
    message = request()
    if message:
        content = message.get("content")
        return isinstance(content, dict) and bool(content.get("allow_stdin"))
    return sys.stdin is not None and sys.stdin.isatty()


def has_front_end() -> bool:
    """Whether a front end shows this kernel's outputs. A terminal cannot replace one."""
    return bool(request())


def policy(name: str, show: Show, interrupting: Interrupting) -> OnChoice:
    """The client's policy for ``--on-choice NAME`` in this kernel, at this moment."""
    if name in {"wait", "fail", "deny", "allow"}:
        return name  # type: ignore[return-value]
    if name == "auto" and not is_attended():
        return "fail"

    def decide(choice: Choice) -> Decision:
        if name == "auto" and has_front_end():
            show(choice)
            return "wait"  # the browser resolves it at the server; the stream has the outcome
        with interrupting.prompting():
            try:
                return _ask_by_text(choice)
            except KeyboardInterrupt:
                return "wait"  # the turn is being interrupted: its end is read
            except EOFError:
                return "deny"

    return decide


def _ask_by_text(choice: Choice) -> Decision:
    if choice.kind == "question":
        return {question.id: _ask_question(question) for question in choice.questions}
    print(
        show_control_characters(
            f"The agent asks to run {choice.tool}: {' '.join(choice.title.split())}"
        )
    )
    print(show_control_characters(truncate_middle(_whole_input(choice), INPUT_LIMIT)))
    return input("Allow it? [y/N] ").strip().lower() in {"y", "yes"}


def _whole_input(choice: Choice) -> str:
    """What will run, exactly."""
    given = choice.input
    if choice.command is not None and given in ({"command": choice.command}, None):
        return choice.command
    fields = given if isinstance(given, Mapping) else {"input": given}
    lines = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    )
    return "\n".join(lines)


def _ask_question(question: object) -> str | list[str]:
    from loopat_jupyter.client import Question

    assert isinstance(question, Question)
    print(show_control_characters(question.question))
    for number, option in enumerate(question.options, 1):
        print(show_control_characters(f"  {number}. {option.label}"))
    labels = {str(n): option.label for n, option in enumerate(question.options, 1)}
    if question.multi_select:
        given = input("Numbers or words, separated by commas: ").split(",")
        return [chosen for word in given if (chosen := _parse_reply(word, labels))]
    return _parse_reply(input("A number or an answer: "), labels)


def _parse_reply(word: str, labels: Mapping[str, str]) -> str:
    return labels.get(word.strip(), word.strip())
