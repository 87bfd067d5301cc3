"""One line of ``loopat doctor``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "info", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: ``bad`` where no loop can run before it is fixed, ``warning`` where one can.
        found: the fact, as one line.
        fix: what to do about it, where something is wrong.
    """

    name: str
    state: State
    found: str
    fix: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
