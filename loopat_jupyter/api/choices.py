"""``/loops/{id}/choices`` and ``/rules``: answer the agent; what was remembered."""

from __future__ import annotations

from ..loops.models import Source
from .handler import LoopatHandler
from .operations import Operation, ResponseSpec, operation
from .parameters import CHOICE_ID, LOOP_ID, RULE_ID
from .schemas import ChoiceAnswer, RuleList, RuleView


class ChoiceHandler(LoopatHandler):
    @operation(
        Operation(
            "answerChoice",
            "choices",
            "Answer a pending choice",
            ResponseSpec(202, "The answer is on disk; the turn goes on."),
            description='A permission: `{"allow": true}`, with `"remember": "loop"` to be asked '
            'no more. A question: `{"answers": {…}}`, all at once. Of two answers exactly one '
            "is taken; a body that does not fit leaves the choice pending.",
            parameters=(LOOP_ID, CHOICE_ID),
            body=ChoiceAnswer,
            body_example={"allow": True},
            errors=(
                "invalid_json",
                "invalid_choice_payload",
                "not_loop_owner",
                "loop_not_found",
                "choice_not_found",
            ),
        )
    )
    async def post(self, loop_id: str, choice_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.pending_choice(loop, choice_id)
        given = await self.read_json()
        body = {name: value for name, value in given.items() if value is not None}
        source: Source = "api" if self.caller.is_program else "web"
        await self.service.answer(loop, choice_id, body, source)
        self.send_json(202)


class RulesHandler(LoopatHandler):
    @operation(
        Operation(
            "listRules",
            "choices",
            "List what a loop remembers as allowed",
            ResponseSpec(
                200,
                "The rules.",
                RuleList,
                {
                    "rules": [
                        {
                            "rule_id": "rule_0a1b2c3d4e5f",
                            "tool": "Bash",
                            "prefix": "git status",
                            "created_at": "2026-01-31T12:00:00.000000Z",
                        }
                    ]
                },
            ),
            parameters=(LOOP_ID,),
            errors=("not_loop_owner", "loop_not_found"),
        )
    )
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        rules = [
            RuleView(
                rule_id=rule.rule_id,
                tool=rule.tool,
                prefix=rule.prefix,
                created_at=rule.created_at,
            )
            for rule in await self.service.rules(loop)
        ]
        self.send_json(200, RuleList(rules=rules))


class RuleHandler(LoopatHandler):
    @operation(
        Operation(
            "withdrawRule",
            "choices",
            "Withdraw a remembered rule",
            ResponseSpec(204, "The agent has to ask again."),
            parameters=(LOOP_ID, RULE_ID),
            errors=("not_loop_owner", "loop_not_found", "not_found"),
        )
    )
    async def delete(self, loop_id: str, rule_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.delete_rule(loop, rule_id)
        self.send_json(204)
