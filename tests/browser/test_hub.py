"""The notebook story behind a JupyterHub: log in, get a server, talk with a loop in JupyterLab."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.hub import START_TIMEOUT, Hub, PersonsServer
from tests.support.mock_model import Gate, Hold, MockModel, Text, bash
from tests.support.server import mock_provider

from .chat import Chat
from .conftest import DESKTOP
from .notebook_page import Face, NotebookPage
from .notebook_server import SETTINGS

pytestmark = pytest.mark.slow(15)

CLEO = "cleo"
CELL = """from loopat_jupyter.widgets import LoopChat
chat = LoopChat(title="On the Hub")
chat"""
CONFIG = """
c.LabApp.expose_app_in_browser = True
c.LoopatExtension.default_permission_mode = "default"
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[Hub]:
    """A Hub with a person who has never been there; in her home lies a notebook."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    home = hub.home(CLEO)
    (home / ".loopat").mkdir(mode=0o700)
    (home / ".loopat" / "config.json").write_text(json.dumps(mock_provider(model.url)))
    config = home / ".config" / "jupyter"
    (config / "labconfig").mkdir(parents=True)
    (config / "jupyter_server_config.py").write_text(CONFIG)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, home / "story.ipynb")
    with hub:
        yield hub


async def test_a_person_logs_in_and_talks_with_a_loop(
    hub: Hub, chrome: Browser, pictures: Path, model: MockModel
) -> None:
    server: Any = PersonsServer(hub, CLEO)
    context = await chrome.new_context(viewport=DESKTOP, reduced_motion="reduce")
    try:
        page = await context.new_page()
        await page.goto(f"{hub.url}hub/login")
        await page.get_by_label("Username").fill(CLEO)
        await page.get_by_label("Password").fill("x")
        await page.get_by_role("button", name="Sign in").click()
        # The Hub starts her server and leads her to JupyterLab by itself.
        await page.wait_for_url(re.compile(rf"/user/{CLEO}/lab"), timeout=START_TIMEOUT * 1000)
        notebook = NotebookPage(page, server, Face.LAB, "story.ipynb", pictures)
        await notebook.open()
        await notebook.run(0)
        await _talks(notebook, model)
        await notebook.picture("hub")
        await page.evaluate("window.jupyterapp.shell.currentWidget.content.node.focus()")
        await notebook.save()
        written = notebook.on_disk()
        await _makes_a_token(page, server)
        notebook.hold_invariants()
    finally:
        await context.close()
    for secret in ("token=", "la_", str(hub.port), str(hub.directory)):
        assert secret not in written, f"{secret} is in the notebook"


async def _makes_a_token(page: Page, server: PersonsServer) -> None:
    """As the guide says: in the reference page of her own server, with the Hub's cookies."""
    await page.goto(f"{server.api_url}/docs")
    operation = page.locator(".opblock-post").filter(has_text="/me/tokens")
    await operation.locator(".opblock-summary-control").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    shown = operation.locator(".live-responses-table .response")
    await expect(shown).to_contain_text("201")
    found = re.search(r"la_[0-9a-f]{48}", await shown.inner_text())
    assert found, await shown.inner_text()
    headers = {"Authorization": f"Bearer {found[0]}"}
    async with httpx.AsyncClient(headers=headers) as program:
        listed = (await program.get(f"{server.api_url}/loops")).json()["data"]
    assert [loop["created_by"] for loop in listed] == [CLEO]


async def _talks(notebook: NotebookPage, model: MockModel) -> None:
    chat = await Chat(notebook).live()
    await expect(chat.region).to_contain_text("On the Hub")
    gate = Gate()
    script = model.script(
        [Text("I am going "), Hold(gate), Text("to look."), bash("echo seen > seen.txt")],
        [Text("It is **done**.")],
    )
    await chat.send(script.message("look"))
    turn = chat.turns.nth(0)
    await expect(turn).to_contain_text("I am going")  # through the proxy, while the model waits
    await expect(turn).not_to_contain_text("to look")
    gate.open()
    choice = await chat.asked()
    await expect(choice).to_contain_text("echo seen > seen.txt")
    await chat.allow()
    await chat.ended(0)
    await expect(turn.locator("strong")).to_have_text("done")
    await expect(chat.choices.nth(0)).to_have_attribute("data-state", "allowed")
