"""A permission decision carries its whole text, and who decided."""

from __future__ import annotations

import json

import pytest

from loopat_jupyter.loops.models import RuleRecord
from loopat_jupyter.loops.ports.engine import (
    USER_DENIED,
    PermissionDecision,
    PermissionMode,
    Turn,
    TurnHost,
)
from tests.loops.conftest import Domain


class DecisionRecorder:
    """A turn that asks for one Bash call and keeps what was decided."""

    def __init__(self) -> None:
        self.decisions: list[PermissionDecision] = []

    async def __call__(self, turn: Turn, host: TurnHost) -> None:
        await host.tool_call("t1", "Bash", {"command": "ls"})
        decision = await host.permission(
            "t1", "Bash", {"command": "ls"}, kind="other", title="Run ls", display_name="Bash"
        )
        self.decisions.append(decision)
        await host.tool_result("t1", decision.allowed, decision.denial)


@pytest.mark.parametrize("allow", [True, False])
async def test_a_persons_decision_says_that_it_was_theirs(domain: Domain, allow: bool) -> None:
    recorder = domain.engine.script = DecisionRecorder()
    loop = await domain.loop()
    turn = await domain.send(loop)
    choice = json.loads((await domain.until("requires_choice", turn)).data)
    await domain.service.resolve_choice(loop, choice["choice_id"], {"allow": allow}, "web")
    await domain.until("done", turn)
    expected = PermissionDecision(True) if allow else PermissionDecision.deny(USER_DENIED, "user")
    assert recorder.decisions == [expected]


@pytest.mark.parametrize(
    ("mode", "words"), [("plan", "plan mode"), ("dontAsk", "this mode does not ask")]
)
async def test_a_modes_decision_is_the_policys_and_its_text_is_whole(
    domain: Domain, mode: PermissionMode, words: str
) -> None:
    recorder = domain.engine.script = DecisionRecorder()
    loop = await domain.loop()
    await domain.until("done", await domain.send(loop, permission_mode=mode))
    (decision,) = recorder.decisions
    assert (decision.allowed, decision.denied_by) == (False, "policy")
    assert decision.denial.startswith("User denied permission")
    assert words in decision.denial


async def test_rules_are_read_once_in_a_turn_and_again_after_they_changed(
    domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = await domain.loop()
    first = domain.engine.script = DecisionRecorder()
    turn = await domain.send(loop)
    choice = json.loads((await domain.until("requires_choice", turn)).data)
    body = {"allow": True, "remember": "loop"}
    await domain.service.resolve_choice(loop, choice["choice_id"], body, "web")
    await domain.until("done", turn)
    assert first.decisions == [PermissionDecision(True)]
    (rule,) = await domain.store.loops.rules(loop.loop_id)

    reads: list[str] = []
    rules_of = domain.store.loops.rules

    async def counted(loop_id: str) -> list[RuleRecord]:
        reads.append(loop_id)
        return await rules_of(loop_id)

    monkeypatch.setattr(domain.store.loops, "rules", counted)
    decisions: list[bool] = []

    async def list_files(turn: Turn, host: TurnHost) -> None:
        for number in range(6):
            await host.sandbox()
            decision = await host.permission(
                f"t{number}", "Bash", {"command": "ls"}, kind="other", title="", display_name=""
            )
            decisions.append(decision.allowed)
            if number == 2:
                await domain.service.delete_rule(loop, rule.rule_id)

    domain.engine.script = list_files
    await domain.until("done", await domain.send(loop, permission_mode="dontAsk"))
    assert decisions == [True, True, True, False, False, False]
    assert reads == [loop.loop_id] * 2
