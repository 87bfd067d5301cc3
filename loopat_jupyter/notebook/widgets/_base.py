"""What both widgets are: the id of a loop, and the way to it through the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
from traitlets import Unicode

from loopat_jupyter.client import ServerAddress

from ._kernel_bridge import KernelBridge


class LoopWidget(anywidget.AnyWidget):
    """A widget of one loop. Its relay has a thread only where the browser asks for one."""

    loop_id = Unicode(read_only=True, help="The loop's id.").tag(sync=True)

    _relay: KernelBridge | None = None

    def __init__(self, loop_id: str, address: ServerAddress) -> None:
        super().__init__()
        self.set_trait("loop_id", loop_id)
        self._relay = KernelBridge(loop_id, address, self.send)
        self.on_msg(self._take)

    def _take(self, widget: Any, message: object, buffers: Sequence[bytes | memoryview]) -> None:
        if self._relay is not None:
            self._relay.take(message, buffers)

    def close(self) -> None:
        """End the widget wherever it is shown. The loop and its turns go on."""
        if self._relay is not None:
            self._relay.close()
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop_id}>"
