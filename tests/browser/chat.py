"""The chat widget as a person finds it: by roles and names, and a few data attributes.

What is read here is what assistive technology reads. A test that cannot find something by its
role has found a defect of the widget.
"""

from __future__ import annotations

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, expect

from .notebook_page import NotebookPage

GRAVE = {"serious", "critical"}


def show(loop_id: str) -> str:
    """The source of a cell that shows the chat of a loop."""
    return f'from loopat_jupyter.widgets import LoopChat\nchat = LoopChat("{loop_id}")\nchat'


class Chat:
    """One chat in one page."""

    def __init__(self, notebook: NotebookPage, cell: int = 0) -> None:
        self.notebook = notebook
        self.region = notebook.output(cell).get_by_role("region", name="Loop chat")
        self.field = self.region.get_by_role("textbox", name="Message to the loop")
        self.stop = self.region.get_by_role("button", name="Stop the turn")
        self.turns = self.region.locator("[data-loopat-turn]")
        self.answers = self.region.locator("[data-loopat-role=assistant]")
        self.foot = self.region.locator(".loopat-foot")
        self.announcer = self.region.locator("[data-loopat-announcer]")
        self.choices = self.region.locator("[data-loopat-choice]")
        self.waiting = self.region.get_by_role("group", name="Messages on their way")
        self.story = notebook.output(cell).locator("details", has_text="Transcript of")

    async def live(self) -> Chat:
        """Wait until the chat follows its loop."""
        await expect(self.region).to_have_attribute("data-link", "live")
        return self

    async def send(self, text: str) -> None:
        """Write a message and press Enter."""
        await self.field.fill(text)
        await self.field.press("Enter")

    async def ended(self, number: int, state: str = "done") -> Locator:
        """Wait until the turn with this number (from 0) ended as ``state``; the turn."""
        turn = self.turns.nth(number)
        await expect(turn).to_have_attribute("data-state", state)
        return turn

    async def asked(self) -> Locator:
        """Wait until a choice is pending; the choice."""
        choice = self.region.locator("[data-loopat-choice][data-state=pending]")
        await expect(choice).to_be_visible()
        return choice

    async def allow(self) -> None:
        choice = await self.asked()
        await choice.get_by_role("button", name="Allow", exact=True).click()

    async def deny(self) -> None:
        choice = await self.asked()
        await choice.get_by_role("button", name="Deny").click()

    # ------------------------------------------------------------------ judgements

    async def accessible(self) -> None:
        """No serious or critical finding of axe-core in any of our widgets on the page."""
        results = await Axe().run(self.notebook.page, context=".loopat")
        found = [one for one in results.response["violations"] if one["impact"] in GRAVE]
        assert found == [], "\n".join(_finding(one) for one in found)

    async def fits(self) -> None:
        """Nothing of the chat is wider than the place it has."""
        wide: list[str] = await self.region.evaluate(
            """region => {
              const right = region.getBoundingClientRect().right + 1;
              const scrolls = node =>
                /auto|scroll|hidden|clip/.test(getComputedStyle(node).overflowX);
              const inFrame = node => {
                for (let one = node.parentElement; one && one !== region; one = one.parentElement)
                  if (scrolls(one)) return true;
                return false;
              };
              return [...region.querySelectorAll("*")]
                .filter(node => node.getBoundingClientRect().right > right && !inFrame(node))
                .map(node => node.outerHTML.slice(0, 120));
            }"""
        )
        assert wide == [], wide


def _finding(violation: dict[str, Any]) -> str:
    head = f"{violation['impact']}: {violation['id']}: {violation['help']}"
    nodes = [f"    {one['html'][:200]}\n    {one['failureSummary']}" for one in violation["nodes"]]
    return "\n".join([head, *nodes])
