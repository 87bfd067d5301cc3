"""A form of the agent (the protocol's *elicitation*) as questions, and the answers as its content.

Each property of the form is one question, ``q1``, ``q2``, … in the form's order. A choice among
values is shown by its titles, and the answer goes back as the value; what a person says in words of
their own goes back as it is. The agent has to look at what it gets: a form is a wish, no wall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...loops.ports.engine import Answers, QuestionOption, UserQuestion
from ...loops.text import sanitize_text

QUESTIONS = 20
OPTIONS = 50
TEXT_LIMIT = 4000
LABEL_LIMIT = 200
YES, NO = "Yes", "No"


@dataclass(frozen=True, slots=True)
class Field:
    """``values``: what each option of the question stands for in the form."""

    name: str
    question: UserQuestion
    values: Mapping[str, Any] = field(default_factory=dict)

    def value(self, answer: str | list[str]) -> Any:
        if isinstance(answer, list):
            return [self.values.get(one, one) for one in answer]
        return self.values.get(answer, answer)


@dataclass(frozen=True, slots=True)
class Form:
    """``call``: the agent's id of the tool call that it belongs to."""

    fields: tuple[Field, ...]
    call: str | None = None

    @property
    def questions(self) -> list[UserQuestion]:
        return [one.question for one in self.fields]

    def content(self, answers: Answers) -> dict[str, Any]:
        """The filled form."""
        return {
            one.name: one.value(answers[one.question.id])
            for one in self.fields
            if one.question.id in answers
        }


def form_of(message: str, schema: Mapping[str, Any], call: str | None) -> Form | None:
    """The form that ``schema`` describes; ``None`` for one that nobody could fill."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= QUESTIONS:
        return None
    named = [(name, about) for name, about in properties.items() if isinstance(about, Mapping)]
    if len(named) < len(properties):
        return None
    said = [_said(name, about) for name, about in named]
    message = _text(message, TEXT_LIMIT)
    if message and not any(text in message for text in said):
        said[0] = message if len(said) == 1 and said[0] == named[0][0] else f"{message}\n{said[0]}"
    elif len(said) == 1 and said[0] == named[0][0]:
        said[0] = message  # the property's bare name says nothing beside it
    made = [
        _field(number, name, about, text)
        for number, ((name, about), text) in enumerate(zip(named, said, strict=True), 1)
    ]
    if any(len(one.question.options) > OPTIONS for one in made):
        return None
    return Form(tuple(made), call)


def _field(number: int, name: str, about: Mapping[str, Any], text: str) -> Field:
    items = about.get("items")
    several = about.get("type") == "array"
    offered = _offered(items if several and isinstance(items, Mapping) else about)
    title, described = _text(about.get("title"), LABEL_LIMIT), about.get("description")
    question = UserQuestion(
        id=f"q{number}",
        question=text,
        options=tuple(QuestionOption(label, more) for label, _, more in offered),
        multi_select=several,
        header=title if title and described else None,
    )
    return Field(name, question, {label: value for label, value, _ in reversed(offered)})


def _said(name: str, about: Mapping[str, Any]) -> str:
    """What the form asks for in this property."""
    for key in ("description", "title"):
        text = _text(about.get(key), TEXT_LIMIT)
        if text:
            return text
    return _text(name, LABEL_LIMIT)


def _offered(about: Mapping[str, Any]) -> Sequence[tuple[str, Any, str | None]]:
    """The options of a property: label, value, description."""
    if about.get("type") == "boolean":
        return [(YES, True, None), (NO, False, None)]
    titled = about.get("oneOf") or about.get("anyOf")
    if isinstance(titled, list):
        return [
            (
                _text(one.get("title"), LABEL_LIMIT) or _text(one.get("const"), LABEL_LIMIT),
                one.get("const"),
                _text(one.get("description"), TEXT_LIMIT) or None,
            )
            for one in titled
            if isinstance(one, Mapping)
        ]
    plain = about.get("enum")
    if isinstance(plain, list):
        return [(_text(one, LABEL_LIMIT), one, None) for one in plain if isinstance(one, str)]
    return []


def _text(value: Any, limit: int) -> str:
    return sanitize_text(value).strip()[:limit] if isinstance(value, str) else ""
