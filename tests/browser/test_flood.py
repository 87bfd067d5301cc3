"""An agent that talks very much: the page stays usable, and the kernel's messages few.

Nothing here is measured against the clock of this machine: what is held is the share of time in
which the page stood still, and how many nodes and kernel messages there are for so many deltas.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.async_api import Page, Route, WebSocket, expect

from tests.support.mock_model import Gate, Hold, MockModel, Text

from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(15)

DELTAS = 20_000
STILL = 250  # ms between two frames from which on a person notices
MOST_STILL = 0.3  # of the time, while two cores do everything else too
KERNEL_RATE = 20  # updates a second, by design
IOPUB_LIMIT = 1000  # messages a second, from which on the server drops them
FRAMES = """() => {
  const probe = { gaps: [], begun: performance.now(), last: performance.now(), on: true };
  const frame = now => {
    probe.gaps.push(now - probe.last);
    probe.last = now;
    if (probe.on) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  window.loopatProbe = probe;
}"""
READ = """() => {
  const probe = window.loopatProbe;
  probe.on = false;
  return { gaps: probe.gaps, took: performance.now() - probe.begun };
}"""


class KernelMessages:
    """Counts what the kernel sends to the page, by second."""

    def __init__(self, page: Page) -> None:
        self.at: list[float] = []
        page.on("websocket", self._follow)

    def _follow(self, socket: WebSocket) -> None:
        if "/channels" in socket.url:
            socket.on("framereceived", self._count)

    def _count(self, payload: Any) -> None:
        self.at.append(time.monotonic())

    def most_in(self, seconds: float) -> int:
        """The most messages in any window of that length."""
        first, most = 0, 0
        for last, moment in enumerate(self.at):
            while moment - self.at[first] > seconds:
                first += 1
            most = max(most, last - first + 1)
        return most


@pytest.mark.parametrize("way", ["server", "kernel"])
async def test_a_turn_of_very_many_deltas_leaves_the_page_usable(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel, way: str
) -> None:
    loop_id = notebook_server.new_loop("Flood")
    face = Face.LAB if way == "server" else Face.NOTEBOOK
    page = await open_notebook(face, show(loop_id), own_kernel=True)
    if way == "kernel":
        await page.page.route("**/loopat/api/**", _nobody)
    messages = KernelMessages(page.page)
    await page.reload()  # so that its sockets are counted from the first message on
    await page.run(0)
    chat = await Chat(page).live()

    gate = Gate()
    ends = [" "] * 11 + [".\n\n"]
    words = [Text(f"word{n}{ends[n % 12]}") for n in range(DELTAS)]
    script = model.script([Text("Ready. "), Hold(gate), *words, Text("\n\nThe end.")])
    await chat.send(script.message("flood"))
    await expect(chat.answers).to_contain_text("Ready.")
    messages.at.clear()
    await page.page.evaluate(FRAMES)
    gate.open()
    await expect(chat.answers).to_contain_text("word200")
    await chat.field.press_sequentially("still usable")  # each key is handled before the next
    assert await chat.turns.first.get_attribute("data-state") == "running"
    await chat.ended(0)
    probe = await page.page.evaluate(READ)

    await expect(chat.answers).to_contain_text(f"word{DELTAS - 1}")
    await expect(chat.answers).to_contain_text("The end.")
    await expect(chat.field).to_have_value("still usable")
    gaps = probe["gaps"]
    stood = sum(gap for gap in gaps if gap > STILL) / probe["took"]
    nodes = await chat.region.evaluate("region => region.querySelectorAll('*').length")
    print(
        f"{way}: {probe['took']:.0f} ms, {len(gaps)} frames, longest gap {max(gaps):.0f} ms, "
        f"stood still {stood:.1%}, {nodes} nodes, {len(messages.at)} kernel messages, "
        f"at most {messages.most_in(1)} in a second"
    )
    assert stood < MOST_STILL
    assert nodes < DELTAS / 4
    assert messages.most_in(1) < IOPUB_LIMIT
    if way == "server":
        assert len(messages.at) < 50  # the kernel has no part in it
    else:
        assert len(messages.at) <= KERNEL_RATE * (probe["took"] / 1000 + 1)
    await page.picture(f"flood-{way}")


async def _nobody(route: Route) -> None:
    await route.fulfill(status=404, content_type="text/html", body="<p>nobody here</p>")
