"""The engine ``builtin``: our own turn loop, over any model of :mod:`.providers`.

The model is called from the server, so no key comes near the sandbox; the tools run in the
sandbox. Everything a turn needs to go on after a wait is in its journal: the engine keeps nothing
of a turn in memory, and an answer that comes days later, in another process, finds its place.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...context.config_file import ConfigFile
from ...context.vaults import DEFAULT_VAULT
from ...loops.errors import ConfigError, TurnFailed
from ...loops.ports.engine import PastTurn, Turn, TurnHost, Usage
from ..models.messages import (
    Elision,
    Exchange,
    Message,
    Response,
    UserMessage,
    elision_entry,
    read_elision,
    read_journal,
    response_entry,
)
from ..models.pool import Providers
from ..models.port import Model, ModelError, ModelRequest
from ..models.sanitize import legible
from ..tools.outcome import ToolLimits
from ..tools.tools import TOOLS
from .context_window import Fitted, Window, text_size
from .history import last_elision, past_turns
from .model_call import Patience, ask
from .tool_calls import settle

SPECS = tuple(tool.spec for tool in TOOLS.values())
SPECS_SIZE = sum(text_size(spec.description + json.dumps(spec.schema)) for spec in SPECS)

Instructions = Callable[[Turn], Awaitable[str]]
"""What an agent is told before the conversation: its loop, profiles and knowledge."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """``model_calls``: how often one turn may ask its model before it is ended."""

    model_calls: int = 250
    tools: ToolLimits = field(default_factory=ToolLimits)
    patience: Patience = field(default_factory=Patience)


class BuiltinEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.engine.Engine`."""

    name = "builtin"
    durable_choices = True

    def __init__(
        self, home: Path, instructions: Instructions, limits: EngineLimits | None = None
    ) -> None:
        self._config = ConfigFile(home)
        self._providers = Providers()
        self._instructions = instructions
        self._limits = limits or EngineLimits()

    async def prepare(self) -> None:
        """Load ahead what the first turn would have to wait for. Optional.

        A configuration that is broken is left for the turn that needs it to report.
        """
        try:
            choice = await self._config.choose(DEFAULT_VAULT)
        except ConfigError:
            return
        await self._providers.model(choice)

    async def run(self, turn: Turn, host: TurnHost) -> None:
        model = await self._providers.model(await self._config.choose(turn.vault))
        run = _TurnRun(
            turn=turn,
            host=host,
            model=model,
            instructions=await self._instructions(turn),
            past=await host.history(),
            limits=self._limits,
        )
        await run.to_the_end()

    async def close_loop(self, loop_id: str) -> None:
        """Nothing is kept for a loop."""

    async def close(self) -> None:
        await self._providers.close()


@dataclass(slots=True)
class _TurnRun:
    """One stretch of a turn, from its begin or an answer to its end or the next wait."""

    turn: Turn
    host: TurnHost
    model: Model
    instructions: str
    past: Sequence[PastTurn]
    limits: EngineLimits

    async def to_the_end(self) -> None:
        exchanges = read_journal(self.turn.journal)
        asking = self._asking()
        while True:
            if exchanges:
                await settle(exchanges[-1], self.host, self.limits.tools)
                if not exchanges[-1].response.calls:
                    return
            if len(exchanges) >= self.limits.model_calls:
                raise TurnFailed(
                    f"The turn has asked its model {self.limits.model_calls} times without "
                    "coming to an end. Send another message to let it go on.",
                    code="budget_exceeded",
                )
            response = await asking.next(exchanges)
            if response.cut and not response.calls:
                raise TurnFailed(
                    f"The answer of {self.model.name} was cut off at its output limit "
                    "(maxTokens in config.json). Ask it to go on."
                )
            exchanges.append(Exchange(response))

    def _asking(self) -> _Asking:
        overhead = text_size(self.instructions) + SPECS_SIZE
        return _Asking(
            host=self.host,
            model=self.model,
            instructions=self.instructions,
            past=past_turns(self.past),
            message=UserMessage(self.turn.content, current=True),
            window=Window(self.model.window, overhead),
            elision=read_elision(self.turn.journal) or last_elision(self.past),
            patience=self.limits.patience,
        )


@dataclass(slots=True)
class _Asking:
    """The turn's questions to its model: what is sent, and what is kept of the answers."""

    host: TurnHost
    model: Model
    instructions: str
    past: list[list[Message]]
    message: UserMessage
    window: Window
    elision: Elision
    patience: Patience

    async def next(self, exchanges: Sequence[Exchange]) -> Response:
        """The model's next answer, shown and journaled."""
        here: list[Message] = [self.message]
        for exchange in exchanges:
            here.extend(exchange.messages())
        turns = [*self.past, here]
        fitted = self.window.fit(turns, self.elision)
        try:
            response = await self._ask(fitted)
        except ModelError as error:
            fitted = self.window.fit(turns, self.elision, tighter_than=fitted.estimate)
            response = await self._ask_again(fitted, error)
        response = replace(response, estimate=fitted.estimate)
        answers = (one for turn in turns for one in turn if isinstance(one, Response))
        response = legible(response, {call.id for one in answers for call in one.calls})
        await self._keep(response, fitted.elision)
        return response

    async def _ask(self, fitted: Fitted) -> Response:
        request = ModelRequest(self.instructions, fitted.messages, SPECS)
        return await ask(self.model, request, self.host, self.patience)

    async def _ask_again(self, fitted: Fitted, reason: ModelError) -> Response:
        """After the provider found the conversation too long: once more, with much less."""
        try:
            return await self._ask(fitted)
        except ModelError:
            raise TurnFailed(
                f"The conversation does not fit into {self.model.name}, even with everything "
                f"left out that could be: {reason.message}"
            ) from reason

    async def _keep(self, response: Response, elision: Elision) -> None:
        entries = [response_entry(response)]
        if elision != self.elision:
            self.elision = elision
            entries.insert(0, elision_entry(elision))
        await self.host.journal(*entries)
        await self.host.sdk_message(entries[-1])
        tokens = response.tokens
        await self.host.usage(
            Usage(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
        )
