"""When a command was refused a destination: ask the person, and tell the agent what came of it.

A command cannot be held until somebody answers, days later perhaps. So it runs to its end, and then
the person is asked, as durably as about a tool; if they allow it, the agent runs the command anew.
Where the mode asks nobody, the agent is told just why it could not get there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...loops.destinations import Destination, parse_destination
from ...loops.ports.engine import PermissionDecision, TurnHost
from ...loops.ports.network import NETWORK
from ..models.messages import ModelStep, network_entry

ASKED = 5
"""Destinations that one command may have the person asked about."""

ALLOWED = "The user allowed {name}. The refusal above came before that: run the command again."
REFUSED = "{name} was refused: {why}"
TOO_MANY = "It was refused {count} more destinations, about which nobody was asked."


async def ask_denied_hosts(exchange: ModelStep, host: TurnHost) -> None:
    """Ask about whatever the calls of ``exchange`` were refused, in their order.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    for call in exchange.response.calls:
        result = exchange.results[call.id]
        if result.refused:
            note = await ask_about_host(result.id, result.tool, result.refused, host)
            await host.journal(network_entry(call.id, note))
            exchange.settle_network(call.id, note)


async def ask_about_host(call_id: str, tool: str, refused: Sequence[str], host: TurnHost) -> str:
    """Ask about the destinations that a call was refused; what the agent is to be told of it.

    Raises:
        TurnSuspended: a person must be asked first.
    """
    lines = []
    for name in refused[:ASKED]:
        verdict = await request_host_permission(call_id, tool, parse_destination(name), host)
        said = ALLOWED if verdict.allowed else REFUSED
        lines.append(said.format(name=name, why=verdict.denial))
    more = len(refused) - ASKED
    if more > 0:
        lines.append(TOO_MANY.format(count=more))
    return "\n".join(f"[network: {line}]" for line in lines)


async def request_host_permission(
    call_id: str, who: str, destination: Destination, host: TurnHost
) -> PermissionDecision:
    """``who`` tried to. Raises ``TurnSuspended`` when a person has to be asked."""
    return await host.permission(
        f"{call_id}/{destination}",
        NETWORK,
        {"host": destination.host, "port": destination.port},
        kind="network",
        title=f"Reach {destination}",
        display_name="Network",
        reason=f"{who} tried to, and it is not on the loop's allow-list.",
    )
