"""A person's answer fits its choice, or the choice stays pending."""

from __future__ import annotations

import pytest

from loopat_jupyter.loops.choice_answers import parse_answer
from loopat_jupyter.loops.errors import InvalidChoicePayload
from loopat_jupyter.loops.models import ChoiceRecord


def choice(kind: str, payload: dict) -> ChoiceRecord:
    return ChoiceRecord("choice_1", "loop_1", "turn_1", "t1", kind, payload, pending=True)  # type: ignore[arg-type]


PERMISSION = choice("permission", {"tool": "Bash", "input": {"command": "git status"}})
COMPOUND = choice("permission", {"tool": "Bash", "input": {"command": "a | b"}})
QUESTIONS = choice(
    "question",
    {
        "questions": [
            {"id": "q1", "question": "Tea?", "options": [], "multi_select": False},
            {"id": "q2", "question": "Which?", "options": [], "multi_select": True},
        ]
    },
)


@pytest.mark.parametrize(("allow", "outcome"), [(True, "allowed"), (False, "denied")])
def test_a_permission_is_answered_with_allow(allow, outcome) -> None:
    resolution = parse_answer(PERMISSION, {"allow": allow}, "web")
    assert (resolution.outcome, resolution.source, resolution.rule) == (outcome, "web", None)


def test_remembering_makes_a_rule() -> None:
    rule = parse_answer(PERMISSION, {"allow": True, "remember": "loop"}, "api").rule
    assert rule is not None
    assert (rule.tool, rule.prefix) == ("Bash", "git status")


def test_a_command_that_no_rule_can_cover_is_allowed_this_once() -> None:
    resolution = parse_answer(COMPOUND, {"allow": True, "remember": "loop"}, "api")
    assert (resolution.outcome, resolution.rule) == ("allowed", None)


def test_a_denial_is_not_remembered() -> None:
    assert parse_answer(PERMISSION, {"allow": False, "remember": "loop"}, "api").rule is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"allow": "yes"},
        {"allow": 1},
        {"allow": None},
        {"answers": {"q1": "x"}},
        {"allow": True, "remember": "always"},
        {"allow": True, "remember": True},
        {"allow": True, "remember": ["loop"]},
    ],
)
def test_what_does_not_answer_a_permission_is_refused(body) -> None:
    with pytest.raises(InvalidChoicePayload):
        parse_answer(PERMISSION, body, "api")


def test_questions_are_answered_by_id_or_text_all_at_once() -> None:
    resolution = parse_answer(
        QUESTIONS, {"answers": {"q1": "free text", "Which?": ["a", "b"]}}, "web"
    )
    assert resolution.outcome == "answered"
    assert resolution.answer == {"answers": {"q1": "free text", "q2": ["a", "b"]}}


@pytest.mark.parametrize(
    "answers",
    [
        None,
        [],
        "tea",
        {},
        {"q1": "x"},
        {"q1": "x", "q2": "y", "q3": "z"},
        {"q1": ["x"], "q2": "y"},
        {"q1": "x", "q2": [1]},
        {"q1": None, "q2": "y"},
        {"q1": True, "q2": "y"},
    ],
)
def test_what_does_not_answer_all_questions_is_refused(answers) -> None:
    with pytest.raises(InvalidChoicePayload):
        parse_answer(QUESTIONS, {"answers": answers}, "api")
    with pytest.raises(InvalidChoicePayload):
        parse_answer(QUESTIONS, {"allow": True}, "api")
