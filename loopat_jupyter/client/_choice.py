"""A choice as a caller sees it, whichever client it came from."""

from __future__ import annotations

from typing import Any

from ._events import Question, RequiresChoice


class ChoiceView:
    """What is asked. ``command`` and ``input`` are what will run, exactly."""

    def __init__(self, request: RequiresChoice) -> None:
        self.request = request

    @property
    def id(self) -> str:
        return self.request.choice_id

    @property
    def kind(self) -> str:
        return self.request.kind

    @property
    def tool(self) -> str:
        return self.request.tool

    @property
    def title(self) -> str:
        return self.request.title

    @property
    def input(self) -> Any:
        return self.request.input

    @property
    def command(self) -> str | None:
        return self.request.command

    @property
    def reason(self) -> str | None:
        return self.request.reason

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.request.questions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.kind} {self.title!r}>"
