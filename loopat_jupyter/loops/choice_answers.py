"""Reading a person's answer to a choice.

The shapes are the contract's ("Choices and interrupt"). A body that does not fit the choice raises
``InvalidChoicePayload`` and leaves it pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidChoicePayload
from .models import ChoiceRecord, Resolution, Source
from .permissions import new_rule
from .text import sanitize_text


def parse_answer(choice: ChoiceRecord, body: Mapping[str, Any], source: Source) -> Resolution:
    """The resolution that ``body`` asks for. Raises ``InvalidChoicePayload``."""
    if choice.kind == "permission":
        return _parse_permission(choice, body, source)
    return _parse_answers(choice, body, source)


def _parse_permission(choice: ChoiceRecord, body: Mapping[str, Any], source: Source) -> Resolution:
    allow = body.get("allow")
    if not isinstance(allow, bool):
        raise InvalidChoicePayload('A permission is answered with {"allow": true} or false.')
    remember = body.get("remember")
    if remember not in (None, "loop"):
        raise InvalidChoicePayload('"remember" can only be "loop".')
    rule = None
    if allow and remember:
        rule = new_rule(choice.payload["tool"], choice.payload["input"])
    return Resolution("allowed" if allow else "denied", source, {"allow": allow}, rule)


def _parse_answers(choice: ChoiceRecord, body: Mapping[str, Any], source: Source) -> Resolution:
    given = body.get("answers")
    if not isinstance(given, dict):
        raise InvalidChoicePayload(
            'A question is answered with {"answers": {question id or text: value}}.'
        )
    answers: dict[str, str | list[str]] = {}
    known: set[str] = set()
    for question in choice.payload["questions"]:
        names = [name for name in (question["id"], question["question"]) if name in given]
        if not names:
            raise InvalidChoicePayload(
                f"All questions are answered at once; {question['id']} has no answer."
            )
        known.update(names)
        answers[question["id"]] = _parse_value(question, given[names[0]])
    unknown = set(given) - known
    if unknown:
        raise InvalidChoicePayload("An answer names a question that was not asked.")
    return Resolution("answered", source, {"answers": answers})


def _parse_value(question: Mapping[str, Any], value: Any) -> str | list[str]:
    if isinstance(value, str):
        return sanitize_text(value)
    if (
        question["multi_select"]
        and isinstance(value, list)
        and all(isinstance(item, str) for item in value)
    ):
        return [sanitize_text(item) for item in value]
    expected = "a string or a list of strings" if question["multi_select"] else "a string"
    raise InvalidChoicePayload(f"The answer to {question['id']} must be {expected}.")
