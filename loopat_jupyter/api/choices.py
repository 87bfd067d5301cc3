"""``/loops/{id}/choices`` and ``/rules``: the agent's choices, and remembered permissions."""

from __future__ import annotations

from ..loops.models import Source
from .handler import LoopatHandler
from .schemas import RuleList, RuleView


class ChoiceHandler(LoopatHandler):
    async def post(self, loop_id: str, choice_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.pending_choice(loop, choice_id)
        given = await self.read_json()
        body = {name: value for name, value in given.items() if value is not None}
        source: Source = "api" if self.caller.is_program else "web"
        await self.service.resolve_choice(loop, choice_id, body, source)
        self.send_json(202)


class RulesHandler(LoopatHandler):
    async def get(self, loop_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        rules = await self.context.store.loops.rules(loop.loop_id)
        self.send_json(200, RuleList(rules=[RuleView.model_validate(rule) for rule in rules]))


class RuleHandler(LoopatHandler):
    async def delete(self, loop_id: str, rule_id: str) -> None:
        loop = await self.owned_loop(loop_id)
        await self.service.delete_rule(loop, rule_id)
        self.send_json(204)
