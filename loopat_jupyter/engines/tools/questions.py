"""The tool ``AskUserQuestion``: questions of the agent to the person.

The questions are numbered ``q1``, ``q2``, … in the order of the call's input; the answers come back
under these ids.
"""

from __future__ import annotations

from ...loops.ports.engine import Answers, QuestionOption, UserQuestion
from .inputs import AskUserQuestionInput
from .outcome import truncate_middle


def questions_of(tool_input: AskUserQuestionInput) -> list[UserQuestion]:
    """The questions as a person is asked them."""
    return [
        UserQuestion(
            id=f"q{number}",
            question=item.question,
            options=tuple(
                QuestionOption(option.label, option.description or None) for option in item.options
            ),
            multi_select=item.multiSelect,
            header=item.header or None,
        )
        for number, item in enumerate(tool_input.questions, 1)
    ]


def answer_text(questions: list[UserQuestion], answers: Answers) -> str:
    """The answers as the result of the call."""
    if len(questions) == 1:
        return truncate_middle(f"The user answered: {_value(answers, questions[0])}")
    lines = (f"- {question.question} {_value(answers, question)}" for question in questions)
    return truncate_middle("The user answered:\n" + "\n".join(lines))


def _value(answers: Answers, question: UserQuestion) -> str:
    value = answers.get(question.id, "(no answer)")
    return value if isinstance(value, str) else ", ".join(value)
