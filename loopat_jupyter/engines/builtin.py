"""The engine ``builtin``: our own turn loop, over any model of :mod:`.providers`.

The model is called from the server, so no key comes near the sandbox; the tools run in the
sandbox. Everything a turn needs to go on after a wait is in its journal: the engine keeps nothing
of a turn in memory, and an answer that comes days later, in another process, finds its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..context.config import ConfigFile
from ..context.vaults import DEFAULT_VAULT
from ..loops.errors import ConfigError, TurnFailed
from ..loops.ports import Turn, TurnHost, Usage
from .asking import Patience, ask
from .calls import settle
from .conversation import Exchange, Message, Response, UserMessage, read_journal, response_entry
from .history import past_messages
from .model import Model, ModelRequest
from .providers import Providers
from .tools import TOOLS

SPECS = tuple(tool.spec for tool in TOOLS.values())

Instructions = Callable[[Turn], Awaitable[str]]
"""What an agent is told before the conversation: its loop, profiles and knowledge."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """``model_calls``: how often one turn may ask its model before it is ended."""

    model_calls: int = 250
    patience: Patience = field(default_factory=Patience)


class BuiltinEngine:
    """Implements :class:`~loopat_jupyter.loops.ports.Engine`."""

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
            past=past_messages(await host.history()),
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
    past: list[Message]
    limits: EngineLimits

    async def to_the_end(self) -> None:
        exchanges = read_journal(self.turn.journal)
        while True:
            if exchanges:
                await settle(exchanges[-1], self.host)
                if not exchanges[-1].response.calls:
                    return
            if len(exchanges) >= self.limits.model_calls:
                raise TurnFailed(
                    f"The turn has asked its model {self.limits.model_calls} times without "
                    "coming to an end. Send another message to let it go on.",
                    code="budget_exceeded",
                )
            exchanges.append(Exchange(await self._ask(exchanges)))

    async def _ask(self, exchanges: list[Exchange]) -> Response:
        messages: list[Message] = [*self.past, UserMessage(self.turn.content, current=True)]
        for exchange in exchanges:
            messages.extend(exchange.messages())
        request = ModelRequest(self.instructions, messages, SPECS)
        response = await ask(self.model, request, self.host, self.limits.patience)
        await self.host.journal(response_entry(response))
        tokens = response.tokens
        await self.host.usage(
            Usage(tokens.input, tokens.output, tokens.cache_read, tokens.cache_write)
        )
        return response
