"""What a handle of a loop knows without asking, whichever client it came from."""

from __future__ import annotations

from ._models import LoopInfo


class LoopView:
    """``info`` is the loop as last described by the server; ``refresh()`` asks again."""

    def __init__(self, info: LoopInfo) -> None:
        self.info = info

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def title(self) -> str:
        return self.info.title

    @property
    def archived(self) -> bool:
        return self.info.archived

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.title!r}>"
