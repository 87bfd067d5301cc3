"""One browser page with one notebook in it, in JupyterLab or in Notebook 7.

Everything waits for what the page shows or for what the front end says it finished; nothing
sleeps. The page keeps an account of what must never happen in any test: a request to another host
(:attr:`NotebookPage.foreign`) and an uncaught error in a widget's script
(:attr:`NotebookPage.faults`; the front ends have a few of their own, which are not ours to judge).
"""

from __future__ import annotations

import asyncio
import enum
import os
import re
from collections.abc import Awaitable
from pathlib import Path
from urllib.parse import quote, urlsplit

from playwright.async_api import BrowserContext, Error, Locator, Page, Request, expect

from tests.support.sse import WAIT

from .notebook_server import NotebookServer

HEIGHT = 900
APP = "window.jupyterapp"
READY = """async () => {
  const panel = window.jupyterapp?.shell.currentWidget;
  if (!panel?.context || !panel.sessionContext) return false;
  await panel.context.ready;
  await panel.sessionContext.ready;
  return panel.sessionContext.session?.kernel != null;
}"""
WATCH_SAVE = """() => {
  const { context } = window.jupyterapp.shell.currentWidget;
  window.loopatSaved = new Promise(done => {
    const seen = (_, state) => {
      if (state === "started") return;
      context.saveState.disconnect(seen);
      done(state);
    };
    context.saveState.connect(seen);
  });
}"""
WIDGET_SCRIPT = "blob:"
"""Where anywidget's scripts come from; the front ends' own have an address on the server."""

LOCAL_SCHEMES = ("data", "blob", "about")


class Face(enum.Enum):
    """A front end. The value is what its name looks like in test ids and pictures."""

    LAB = "lab"
    NOTEBOOK = "notebook"

    def url(self, server: NotebookServer, path: str, workspace: str) -> str:
        if self is Face.LAB:
            return f"{server.url}lab/workspaces/{workspace}/tree/{quote(path)}"
        return f"{server.url}notebooks/{quote(path)}"


class NotebookPage:
    """A notebook in a page. Cells are numbered from 0."""

    def __init__(
        self, page: Page, server: NotebookServer, face: Face, path: str, pictures: Path
    ) -> None:
        self.page = page
        self.server = server
        self.face = face
        self.path = path
        self.pictures = pictures
        self.foreign: list[str] = []
        self.faults: list[str] = []
        page.on("request", self._account)
        page.on("pageerror", self._blame)

    def _account(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL_SCHEMES and parts.port != self.server.port:
            self.foreign.append(request.url)

    def _blame(self, error: Error) -> None:
        if WIDGET_SCRIPT in (error.stack or ""):
            self.faults.append(error.stack or error.message)

    # ------------------------------------------------------------------ life

    async def open(self) -> NotebookPage:
        """Load the page and wait until the notebook stands and its kernel is known."""
        workspace = re.sub(r"\W", "-", f"{self.path}-{id(self):x}")
        await self.page.goto(self.face.url(self.server, self.path, workspace))
        await self._stand()
        return self

    async def reload(self) -> None:
        """The reload button; a page that asks whether to leave unsaved changes may."""
        await self.page.reload()
        await self._stand()

    async def _stand(self) -> None:
        await expect(self.cell(0)).to_be_visible()
        await self.page.wait_for_function(READY)

    async def save(self) -> None:
        """Ctrl-S in the notebook, and wait until the file is written."""
        await self.page.evaluate(f"{APP}.shell.currentWidget.content.node.focus()")
        await self.saves(self.page.keyboard.press("Control+s"))

    async def saves(self, action: Awaitable[None]) -> None:
        """Wait until what ``action`` does has written the file."""
        await self.page.evaluate(WATCH_SAVE)
        await action
        async with asyncio.timeout(WAIT):
            state = await self.page.evaluate("window.loopatSaved")
        assert state == "completed", state

    def on_disk(self) -> str:
        """The notebook's file as it is, byte for byte."""
        return (self.server.root / self.path).read_text()

    # ------------------------------------------------------------------ cells and kernel

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-Notebook:visible")

    def cell(self, index: int) -> Locator:
        return self.notebook.locator(f'.jp-Cell[data-windowed-list-index="{index}"]')

    def output(self, index: int) -> Locator:
        """The whole output area of a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    async def start(self, index: int) -> None:
        """Run a cell without waiting for its end; returns once it is with the kernel."""
        await self._select(index)
        await self.page.evaluate(f"void {APP}.commands.execute('notebook:run-cell')")
        await expect(self.cell(index).locator(".jp-InputPrompt")).not_to_have_text("[ ]:")

    async def run(self, index: int, *, may_fail: bool = False) -> Locator:
        """Run a cell to its end; its output area. A traceback fails the test.

        The front end's own promise tells when the kernel has answered and is idle again.
        """
        await self._select(index)
        async with asyncio.timeout(WAIT):
            fine = await self.page.evaluate(f"{APP}.commands.execute('notebook:run-cell')")
        if not (fine or may_fail):
            raise AssertionError(f"cell {index} failed:\n{await self.output(index).inner_text()}")
        return self.output(index)

    async def delete(self, index: int) -> None:
        """Delete a cell; those below move up."""
        await self._select(index)
        await self.page.evaluate(f"{APP}.commands.execute('notebook:delete-cell')")

    async def _select(self, index: int) -> None:
        await self.page.evaluate(
            f"index => {{ const panel = {APP}.shell.currentWidget;"
            " panel.content.activeCellIndex = index; panel.content.deselectAll(); }",
            index,
        )

    async def idle(self, index: int) -> None:
        """Wait until a started cell has its number."""
        prompt = self.cell(index).locator(".jp-InputPrompt")
        await expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))

    async def restart_kernel(self) -> None:
        """Kernel, Restart Kernel…, and yes; returns when the new kernel is there."""
        await self.page.evaluate(f"void {APP}.commands.execute('notebook:restart-kernel')")
        await self.page.locator(".jp-Dialog").get_by_role("button", name="Confirm").click()
        await expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        await self.page.wait_for_function(
            f"() => {APP}.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )

    async def close_dialogs(self) -> None:
        """A front end that lost its server says so in a dialog, which a person closes."""
        close = self.page.locator(".jp-Dialog").get_by_role("button", name="Close")
        while await close.count():
            await close.last.click()

    async def dark(self, wanted: bool = True) -> None:
        """Jupyter's own dark (or light) theme."""
        name = "JupyterLab Dark" if wanted else "JupyterLab Light"
        await self.page.evaluate(
            f"theme => {APP}.commands.execute('apputils:change-theme', {{theme}})", name
        )
        light = "false" if wanted else "true"
        await expect(self.page.locator(f'body[data-jp-theme-light="{light}"]')).to_be_attached()

    async def narrow(self, width: int) -> None:
        """A window this many pixels wide, and in JupyterLab nothing beside the notebook."""
        await self.page.set_viewport_size({"width": width, "height": HEIGHT})
        if self.face is Face.LAB:
            await self.calm()

    async def calm(self) -> None:
        """JupyterLab with the notebook alone: no file browser, no tabs."""
        await self.page.evaluate(
            f"() => {{ const {{ shell }} = {APP}; shell.collapseLeft(); shell.mode ="
            " 'single-document'; }"
        )

    # ------------------------------------------------------------------ evidence

    async def picture(self, name: str, of: Locator | None = None) -> Path:
        """Keep a screenshot of the page, or of a part of it."""
        path = self.pictures / f"{name}-{self.face.value}.png"
        if of is None:
            await self.page.screenshot(path=path, animations="disabled", caret="hide")
        else:
            await of.screenshot(path=path, animations="disabled", caret="hide")
        return path

    def hold_invariants(self) -> None:
        assert self.foreign == [], f"the page asked other hosts: {self.foreign}"
        assert self.faults == [], f"a script of the page failed: {self.faults}"

    async def close(self) -> None:
        await self.page.close()


def picture_directory(default: Path) -> Path:
    """Where screenshots go: ``LOOPAT_SCREENSHOTS``, else the tests' own directory."""
    directory = Path(os.environ.get("LOOPAT_SCREENSHOTS") or default).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


async def logged_in(context: BrowserContext, server: NotebookServer) -> None:
    """Give the browser the cookies that Jupyter's login form gives."""
    cookies, _ = server.log_in()
    await context.add_cookies(
        [{"name": name, "value": value, "url": server.url} for name, value in cookies.items()]
    )
