"""The engine ``builtin``: the server's own turn loop, over any model of :mod:`..models`.

The model is called from the server, so no key comes near the sandbox; the tools run in the
sandbox. Everything that a suspended turn needs is in its journal: the engine keeps nothing of a
turn in memory, and an answer that comes days later, in another process, resumes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...context.config_file import ConfigFile
from ...context.vaults import DEFAULT_VAULT
from ...loops.errors import ConfigError, TurnFailure
from ...loops.ports.engine import ToolCallStart, Turn, TurnHost, TurnUsage
from ..models.messages import (
    Compaction,
    CompactionRecord,
    Message,
    ModelReply,
    ModelStep,
    UserMessage,
    compaction_entry,
    read_journal,
    response_entry,
)
from ..models.pool import ModelPool
from ..models.port import Model, ModelError, ModelRequest
from ..models.sanitize import sanitize_response
from ..plugin import ComposeInstructions
from ..tools.outcome import ToolLimits
from ..tools.tools import TOOLS
from .context_window import ContextWindow, FittedPrompt, text_size
from .history import Conversation, read_conversation
from .model_call import ModelRetryPolicy, call_failure, call_model
from .progress import EMPTY_REPLY_NOTE, check_progress, is_empty, is_final
from .tool_calls import run_tool_calls

SPECS = tuple(tool.spec for tool in TOOLS.values())
SPECS_SIZE = sum(text_size(spec.description + json.dumps(spec.schema)) for spec in SPECS)

LARGE_REQUEST = 4_000
"""Tokens. A refusal that can be read as one because of length is believed from here on."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """``model_calls``: how often one turn may ask its model before it is ended."""

    model_calls: int = 250
    tools: ToolLimits = field(default_factory=ToolLimits)
    retry_policy: ModelRetryPolicy = field(default_factory=ModelRetryPolicy)


class BuiltinEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.Engine`."""

    name = "builtin"
    durable_choices = True

    def __init__(
        self, home: Path, instructions: ComposeInstructions, limits: EngineLimits | None = None
    ) -> None:
        self._config = ConfigFile(home)
        self._models = ModelPool()
        self._instructions = instructions
        self._limits = limits or EngineLimits()

    async def prepare(self) -> None:
        """Open the default model ahead. An invalid configuration is reported by the first turn."""
        try:
            choice = await self._config.select_model(DEFAULT_VAULT)
        except ConfigError:
            return
        await self._models.model(choice)

    async def run(self, turn: Turn, host: TurnHost) -> None:
        model = await self._models.model(await self._config.select_model(turn.vault))
        run = _BuiltinTurn(
            turn=turn,
            host=host,
            model=model,
            instructions=await self._instructions(turn),
            past=await read_conversation(turn, host, model.window),
            limits=self._limits,
        )
        await run.run()

    async def close_loop(self, loop_id: str) -> None:
        """Nothing is held for a loop."""

    async def close(self) -> None:
        await self._models.close()


@dataclass(slots=True)
class _BuiltinTurn:
    """One run of a turn, from its start or a person's answer to its end or the next suspension."""

    turn: Turn
    host: TurnHost
    model: Model
    instructions: str
    past: Conversation
    limits: EngineLimits

    async def run(self) -> None:
        steps = read_journal(self.turn.journal)
        model_steps = self._model_steps()
        while True:
            if steps:
                await run_tool_calls(steps[-1], self.host, self.limits.tools)
                if is_final(steps[-1].response):
                    return
                check_progress(steps, self.model.name)
            if len(steps) >= self.limits.model_calls:
                raise TurnFailure(
                    f"The turn has asked its model {self.limits.model_calls} times without "
                    "coming to an end. Send another message to let it go on.",
                    code="budget_exceeded",
                )
            response = await model_steps.next_step(steps)
            if response.cut and not response.calls:
                raise TurnFailure(
                    f"The answer of {self.model.name} was cut off at its output limit "
                    "(maxTokens in config.json). Ask it to go on."
                )
            steps.append(ModelStep(response))

    def _model_steps(self) -> _ModelSteps:
        overhead = text_size(self.instructions) + SPECS_SIZE
        return _ModelSteps(
            host=self.host,
            model=self.model,
            instructions=self.instructions,
            past=self.past,
            turn_id=self.turn.turn_id,
            message=UserMessage(self.turn.content, current=True),
            window=ContextWindow(self.model.window, overhead, self.past.unread),
            compaction=Compaction(results=self.past.results),
            recorded=self.past.recorded,
            retry_policy=self.limits.retry_policy,
        )


@dataclass(slots=True)
class _ModelSteps:
    """The turn's calls of its model: what is sent, and what of the replies is journaled."""

    host: TurnHost
    model: Model
    instructions: str
    past: Conversation
    turn_id: str
    message: UserMessage
    window: ContextWindow
    compaction: Compaction
    recorded: CompactionRecord
    retry_policy: ModelRetryPolicy

    async def next_step(self, steps: Sequence[ModelStep]) -> ModelReply:
        """The model's next reply, shown and journaled."""
        current: list[Message] = [self.message]
        for step in steps:
            current.extend(step.messages())
            if is_empty(step.response):
                current.append(UserMessage(EMPTY_REPLY_NOTE, current=True))
        turns = [*self.past.turns, current]
        fitted = self.window.fit(turns, self.compaction)
        try:
            response = await self._call(fitted)
        except ModelError as error:
            if not error.too_long and fitted.estimate < LARGE_REQUEST:
                raise call_failure(self.model, error) from error
            fitted = self.window.fit(turns, self.compaction, tighter_than=fitted.estimate)
            response = await self._call_with_less(fitted, error)
        response = replace(response, estimate=fitted.estimate)
        replies = (item for turn in turns for item in turn if isinstance(item, ModelReply))
        response = sanitize_response(
            response, {call.id for reply in replies for call in reply.calls}
        )
        await self._journal(response, fitted.compaction)
        return response

    async def _call(self, fitted: FittedPrompt) -> ModelReply:
        request = ModelRequest(self.instructions, fitted.messages, SPECS)
        return await call_model(self.model, request, self.host, self.retry_policy)

    async def _call_with_less(self, fitted: FittedPrompt, reason: ModelError) -> ModelReply:
        """Call the model once more with a much shorter prompt, after the provider refused its
        length."""
        try:
            return await self._call(fitted)
        except ModelError:
            if not reason.too_long:
                raise call_failure(self.model, reason) from reason
            raise TurnFailure(
                f"The conversation does not fit into {self.model.name}, even with everything "
                f"left out that could be: {reason.message}"
            ) from reason

    async def _journal(self, response: ModelReply, compaction: Compaction) -> None:
        entries = [response_entry(response)]
        self.compaction = compaction
        record = self.past.record(compaction, self.turn_id)
        if record != self.recorded:
            self.recorded = record
            entries.insert(0, compaction_entry(record))
        tokens = response.tokens
        await self.host.journal(
            *entries,
            usage=TurnUsage(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write),
            calls=[ToolCallStart(call.id, call.tool, call.input) for call in response.calls],
        )
        await self.host.sdk_message(entries[-1])
