"""When a command was refused a destination: ask the person, and tell the agent what came of it.

A command cannot be held until somebody answers, days later perhaps. So it runs to its end, and then
the person is asked, as durably as about a tool; if they allow it, the agent runs the command anew.
Where the mode asks nobody, the agent is told just why it could not get there.
"""

from __future__ import annotations

from ..loops.destinations import Destination, parse_destination
from ..loops.network import NETWORK
from ..loops.ports import TurnHost, Verdict
from .conversation import Exchange, ToolResult, network_entry

ASKED = 5
"""Destinations that one command may have the person asked about."""

ALLOWED = "The user allowed {name}. The refusal above came before that: run the command again."
REFUSED = "{name} was refused: {why}"
TOO_MANY = "It was refused {count} more destinations, about which nobody was asked."


async def ask_for_network(exchange: Exchange, host: TurnHost) -> None:
    """Ask about whatever the calls of ``exchange`` were refused, in their order.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    for call in exchange.response.calls:
        result = exchange.results[call.id]
        if result.refused:
            note = await _ask(result, host)
            await host.journal(network_entry(call.id, note))
            exchange.settle_network(call.id, note)


async def _ask(result: ToolResult, host: TurnHost) -> str:
    lines = []
    for name in result.refused[:ASKED]:
        verdict = await _permission(result, parse_destination(name), host)
        said = ALLOWED if verdict.allowed else REFUSED
        lines.append(said.format(name=name, why=verdict.reason))
    more = len(result.refused) - ASKED
    if more > 0:
        lines.append(TOO_MANY.format(count=more))
    return "\n".join(f"[network: {line}]" for line in lines)


async def _permission(result: ToolResult, destination: Destination, host: TurnHost) -> Verdict:
    return await host.permission(
        f"{result.id}/{destination}",
        NETWORK,
        {"host": destination.host, "port": destination.port},
        kind="network",
        title=f"Reach {destination}",
        display_name="Network",
        reason=f"{result.tool} tried to, and it is not on the loop's allow-list.",
    )
