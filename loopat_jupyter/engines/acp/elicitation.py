"""Forms of an agent (the protocol's *elicitation*): as questions, and the answers as their content.

Each property of the form's JSON schema is one question, ``q1``, ``q2``, … in the schema's order. A
choice among values is shown by its titles, and the selected value is sent back; an answer in a
person's own words is sent back as it is. The schema is not enforced: the agent must validate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...loops.ports.engine import Answers, QuestionOption, UserQuestion
from ...loops.text import sanitize_text

MAX_QUESTIONS = 20
MAX_OPTIONS = 50
TEXT_LIMIT = 4000
LABEL_LIMIT = 200
YES, NO = "Yes", "No"


@dataclass(frozen=True, slots=True)
class Field:
    """One property. ``values``: the form's value for each option of the question, by label."""

    name: str
    question: UserQuestion
    values: Mapping[str, Any] = field(default_factory=dict)

    def value(self, answer: str | list[str]) -> Any:
        if isinstance(answer, list):
            return [self.values.get(label, label) for label in answer]
        return self.values.get(answer, answer)


@dataclass(frozen=True, slots=True)
class Form:
    """``call``: the agent's id of the tool call that the form belongs to, if it names one."""

    fields: tuple[Field, ...]
    call: str | None = None

    @property
    def questions(self) -> list[UserQuestion]:
        return [item.question for item in self.fields]

    def content(self, answers: Answers) -> dict[str, Any]:
        """The form's content, from answers by question id."""
        return {
            item.name: item.value(answers[item.question.id])
            for item in self.fields
            if item.question.id in answers
        }


def parse_form(message: str, schema: Mapping[str, Any], call: str | None) -> Form | None:
    """The form that ``schema`` describes; ``None`` for one that nobody could fill."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= MAX_QUESTIONS:
        return None
    named = [(name, about) for name, about in properties.items() if isinstance(about, Mapping)]
    if len(named) < len(properties):
        return None
    texts = _question_texts(_text(message, TEXT_LIMIT), named)
    fields = [
        _field(number, name, about, text)
        for number, ((name, about), text) in enumerate(zip(named, texts, strict=True), 1)
    ]
    if any(len(item.question.options) > MAX_OPTIONS for item in fields):
        return None
    return Form(tuple(fields), call)


def _question_texts(message: str, named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """One text for each property. The form's message goes before the first, unless it holds one of
    them already. A single property that has nothing but its name is asked with the message."""
    texts = [_property_text(name, about) for name, about in named]
    only_a_name = len(texts) == 1 and texts[0] == named[0][0]
    if message and not any(text in message for text in texts):
        texts[0] = message if only_a_name else f"{message}\n{texts[0]}"
    elif only_a_name:
        texts[0] = message
    return texts


def _field(number: int, name: str, about: Mapping[str, Any], text: str) -> Field:
    items = about.get("items")
    multi_select = about.get("type") == "array"
    options = _options(items if multi_select and isinstance(items, Mapping) else about)
    title, description = _text(about.get("title"), LABEL_LIMIT), about.get("description")
    question = UserQuestion(
        id=f"q{number}",
        question=text,
        options=tuple(QuestionOption(label, more) for label, _, more in options),
        multi_select=multi_select,
        header=title if title and description else None,
    )
    return Field(name, question, {label: value for label, value, _ in reversed(options)})


def _property_text(name: str, about: Mapping[str, Any]) -> str:
    """What the form asks for in this property: its description, else its title, else its name."""
    for key in ("description", "title"):
        text = _text(about.get(key), TEXT_LIMIT)
        if text:
            return text
    return _text(name, LABEL_LIMIT)


def _options(about: Mapping[str, Any]) -> Sequence[tuple[str, Any, str | None]]:
    """The options of a property, as label, value and description."""
    if about.get("type") == "boolean":
        return [(YES, True, None), (NO, False, None)]
    titled = about.get("oneOf") or about.get("anyOf")
    if isinstance(titled, list):
        return [
            (
                _text(item.get("title"), LABEL_LIMIT) or _text(item.get("const"), LABEL_LIMIT),
                item.get("const"),
                _text(item.get("description"), TEXT_LIMIT) or None,
            )
            for item in titled
            if isinstance(item, Mapping)
        ]
    plain = about.get("enum")
    if isinstance(plain, list):
        return [(_text(item, LABEL_LIMIT), item, None) for item in plain if isinstance(item, str)]
    return []


def _text(value: Any, limit: int) -> str:
    return sanitize_text(value).strip()[:limit] if isinstance(value, str) else ""
