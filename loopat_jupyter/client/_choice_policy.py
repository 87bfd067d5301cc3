"""What a client does when a turn requires a choice that the caller does not resolve. No I/O.

A client never waits silently for a decision: every stream has a policy. It is applied after an
event ``requires_choice`` was returned and the caller requests the next event without having
resolved the choice:

``"fail"``  raise :class:`~loopat_jupyter.client.ChoiceRequired`; the turn keeps waiting
``"deny"``  deny permissions; answer questions with a text that says nobody is there
``"allow"`` allow permissions; a question still fails, because it has no answer "yes"
``"wait"``  continue reading until another client resolves the choice
a callable  is called with the choice; it resolves it, or returns a :data:`Decision`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ._errors import ChoiceRequired
from ._events import RequiresChoice

Decision = bool | Literal["allow", "deny", "wait"] | Mapping[str, str | list[str]] | str
"""What a callable may return: ``True`` or ``"allow"``, ``False`` or ``"deny"``, ``"wait"``, or
for a question its answers (a mapping by question id, or one string where there is one question)."""

PolicyName = Literal["fail", "deny", "allow", "wait"]

NO_ANSWER = "(no answer: nobody is here to ask)"


def check_policy(policy: object) -> None:
    """Raises ``ValueError`` where ``policy`` is none of the names and not callable."""
    if not callable(policy) and policy not in {"fail", "deny", "allow", "wait"}:
        raise ValueError(
            f"on_choice is {policy!r}, not 'fail', 'deny', 'allow', 'wait' or callable"
        )


def permission_body(allow: bool, remember: str | None = None) -> dict[str, Any]:
    """The request body that resolves a permission."""
    body: dict[str, Any] = {"allow": allow}
    return body if remember is None else {**body, "remember": remember}


def answers_body(
    request: RequiresChoice, answers: Mapping[str, str | list[str]] | str | list[str]
) -> dict[str, Any]:
    """The request body that answers questions; a single value answers the only question.

    Raises:
        ValueError: a single value for several questions.
    """
    if isinstance(answers, Mapping):
        return {"answers": dict(answers)}
    if len(request.questions) != 1:
        count = len(request.questions)
        raise ValueError(f"this choice has {count} questions: answer with a mapping by id")
    return {"answers": {request.questions[0].id: answers}}


def resolution_body(request: RequiresChoice, decision: Decision | None) -> dict[str, Any] | None:
    """The request body for ``decision``, ``None`` to wait.

    Raises:
        ChoiceRequired: the decision resolves nothing (``"fail"``, ``None``, yes to a question).
    """
    if decision == "wait":
        return None
    if request.kind == "permission" and decision in (True, "allow"):
        return permission_body(True)
    if request.kind == "permission" and decision in (False, "deny"):
        return permission_body(False)
    if request.kind == "question" and decision in (False, "deny"):
        return {"answers": {q.id: NO_ANSWER for q in request.questions}}
    answered = isinstance(decision, str) and decision not in {"allow", "fail"}
    if request.kind == "question" and (answered or isinstance(decision, Mapping)):
        return answers_body(request, decision)  # type: ignore[arg-type]
    raise _choice_required(request)


def _choice_required(request: RequiresChoice) -> ChoiceRequired:
    what = request.title or request.tool or "something"
    if request.kind == "question":
        what = "; ".join(q.question for q in request.questions)
    stop = "" if what.endswith(("?", ".", "!")) else "."
    return ChoiceRequired(
        f"the turn waits for a person to decide: {what}{stop} It keeps waiting; answer it, "
        "interrupt the loop, or pass on_choice",
        request,
    )
