"""What the model gateway adds to a request of an agent's own program.

The same requests go to the mock model straight and through an egress proxy in a process of its own,
taking turns, over one kept-alive connection each. A request has the size of a young conversation;
the gateway reads all of it to see which model it names.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bench import Run
from .measures import Measure, quantile, quantiles
from .model import Order
from .processes import Child, cpu_seconds, helper
from .wire import STAMP, Connection, Target

PATH = "/chat/completions"
SIZE = 32 * 1024
"""Bytes of a request's body, about."""
RATE = 100.0
SHARES = (50, 99)


@dataclass
class Samples:
    """Milliseconds."""

    first_byte: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    delta: list[float] = field(default_factory=list)


def body(order: Order, size: int = SIZE) -> dict[str, Any]:
    system = {"role": "system", "content": 'You say "words".\n' * (size // 18)}
    user = {"role": "user", "content": str(order)}
    return {"model": "mock-1", "stream": True, "messages": [system, user]}


async def short(connection: Connection, samples: Samples) -> None:
    """One request with one delta: to the first byte of the answer's body, and to its end."""
    sent, _ = await connection.open("POST", PATH, body(Order(1)))
    data, first = await connection.chunk()
    while data:
        data, last = await connection.chunk()
    samples.first_byte.append((first - sent) / 1e6)
    samples.whole.append((last - sent) / 1e6)


async def streamed(connection: Connection, samples: Samples, deltas: int) -> None:
    """One answer of many deltas: from the model's writing of each to its arrival."""
    await connection.open("POST", PATH, body(Order(deltas, RATE, time.monotonic_ns()), 100))
    data = b"-"
    while data:
        data, arrived = await connection.chunk()
        samples.delta += [(arrived - int(stamp)) / 1e6 for stamp in re.findall(STAMP, data)]


async def _measure(run: Run, model: Child, proxy: Child, key: str) -> tuple[Samples, Samples]:
    straight = Target(model.port, "/v1")
    through = Target(proxy.port, "/model", (("Authorization", f"Bearer {key}"),))
    bare, ours = Samples(), Samples()
    async with Connection(straight) as one, Connection(through) as other:
        for _ in range(20):  # until everything is loaded and connected
            await short(one, Samples())
            await short(other, Samples())
        for _ in range(run.pick(1000, 100)):
            await short(one, bare)
            await short(other, ours)
        for _ in range(run.pick(5, 1)):
            await streamed(one, bare, run.pick(200, 100))
            await streamed(other, ours, run.pick(200, 100))
    return bare, ours


def _rows(what: str, ours: list[float], bare: list[float], budget: str | None) -> list[Measure]:
    """What was measured beside the straight way, and what that makes us add."""
    added = [
        Measure(
            "gateway",
            f"{what} added p{share}",
            max(0.0, quantile(ours, share / 100) - quantile(bare, share / 100)),
            "ms",
            len(ours),
            budget=budget if share == 50 else None,
            note="less the straight way's",
        )
        for share in SHARES
    ]
    return [*quantiles("gateway", what, ours, SHARES, baseline=bare), *added]


async def gateway(run: Run) -> list[Measure]:
    """A program inside to its model: straight, and through the egress proxy."""
    with tempfile.TemporaryDirectory(prefix="loopat-bench-") as folder:
        async with (
            helper("model") as model,
            helper("egress_proxy", str(model.port), folder) as proxy,
        ):
            key = (Path(folder) / "key").read_text()
            before = cpu_seconds(proxy.pid)
            bare, ours = await _measure(run, model, proxy, key)
            used = cpu_seconds(proxy.pid) - before
    each = used / (len(ours.whole) + len(ours.delta)) * 1000
    return [
        *_rows("first byte", ours.first_byte, bare.first_byte, "gateway.first.p50"),
        *_rows("delta", ours.delta, bare.delta, "gateway.delta.p50"),
        *_rows("whole request", ours.whole, bare.whole, None),
        Measure("gateway", "server CPU per request or delta", each, "ms", note="the proxy's"),
    ]
