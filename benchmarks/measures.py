"""What a benchmark finds: measures, and how samples become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .budgets import BUDGETS


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the report.

    ``value`` is in ``unit``. ``baseline`` is the same thing measured without loopat, in the same
    run. ``budget`` is a key of :data:`~benchmarks.budgets.BUDGETS`; a measure with one is judged.
    ``note`` says under which load.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    samples: int = 1
    baseline: float | None = None
    budget: str | None = None
    note: str = ""

    @property
    def limit(self) -> float | None:
        return BUDGETS[self.budget].limit if self.budget else None

    @property
    def ok(self) -> bool | None:
        """Whether it is inside its budget; ``None`` without one."""
        return None if self.limit is None else self.value <= self.limit

    @property
    def ratio(self) -> float | None:
        return self.value / self.baseline if self.baseline else None

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "samples": self.samples,
            "baseline": None if self.baseline is None else round(self.baseline, 4),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "budget": self.limit,
            "ok": self.ok,
            "note": self.note,
        }


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least ``share`` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quantiles(
    benchmark: str,
    name: str,
    samples: Sequence[float],
    shares: Sequence[int] = (50, 99),
    *,
    unit: str = "ms",
    note: str = "",
    baseline: Sequence[float] | None = None,
    budgets: dict[int, str] | None = None,
) -> list[Measure]:
    """One measure for each percentile; ``budgets`` says which of them are judged, by what."""
    return [
        Measure(
            benchmark,
            f"{name} p{share}",
            quantile(samples, share / 100),
            unit,
            len(samples),
            baseline=quantile(baseline, share / 100) if baseline else None,
            budget=(budgets or {}).get(share),
            note=note,
        )
        for share in shares
    ]
