"""The base of both widgets: a loop's id, and the bridge through the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
from traitlets import Unicode

from loopat_jupyter.client import ServerAddress

from ._kernel_bridge import KernelBridge


class LoopWidget(anywidget.AnyWidget):
    """A widget of one loop. Its bridge has a thread only if the browser needs one."""

    loop_id = Unicode(read_only=True, help="The loop's id.").tag(sync=True)

    _bridge: KernelBridge | None = None

    def __init__(self, loop_id: str, address: ServerAddress) -> None:
        super().__init__()
        self.set_trait("loop_id", loop_id)
        self._bridge = KernelBridge(loop_id, address, self.send)
        self.on_msg(self._on_message)

    def _on_message(
        self, widget: Any, message: object, buffers: Sequence[bytes | memoryview]
    ) -> None:
        if self._bridge is not None:
            self._bridge.handle_message(message, buffers)

    def close(self) -> None:
        """Close the widget wherever it is shown. The loop and its turns go on."""
        if self._bridge is not None:
            self._bridge.close()
        super().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop_id}>"
