"""The budgets, in one place: what each measure may be on a 2-core machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """``limit`` in the unit of the measure; a measure is inside when it is not above it."""

    what: str
    limit: float
    unit: str


BUDGETS = {
    "latency.p50": Budget(
        "model delta to client, added by us, 100 loops x 3 watchers, p50", 1.0, "ms"
    ),
    "latency.p99": Budget(
        "model delta to client, added by us, 100 loops x 3 watchers, p99", 10.0, "ms"
    ),
    "gateway.first.p50": Budget("model gateway, added to the first byte, p50", 1.0, "ms"),
    "gateway.delta.p50": Budget("model gateway, added to a delta, p50", 1.0, "ms"),
    "post.ack.p99": Budget("POST to durable acknowledgement, p99", 10.0, "ms"),
    "conversation.ratio": Budget(
        "message to a loop of 5,000 turns, as a multiple of one to a loop of 50, p50", 1.5, ""
    ),
    "resume": Budget("resume of 10,000 events", 200.0, "ms"),
    "sandbox.ready.p50": Budget("sandbox ready (bubblewrap), p50", 25.0, "ms"),
    "restart": Budget("restart with 1,000 loops to all in their right state", 2.0, "s"),
    "list.p95": Budget("list page with 10,000 loops, p95", 20.0, "ms"),
    "memory.stream": Budget("idle stream", 20.0, "KB"),
    "cycles.processes": Budget("processes left by 1,000 create/kill cycles", 0.0, ""),
    "cycles.bytes": Budget("bytes left by 1,000 create/kill cycles", 0.0, "B"),
}
