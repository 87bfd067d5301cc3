"""``%%loop`` and the story of a chat, as a person at JupyterLab or Notebook 7 meets them."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Locator, expect

from tests.support.mock_model import MockModel, Text, bash

from . import saved_file
from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face, NotebookPage
from .notebook_server import NotebookServer
from .test_bad_input import ACTIVE, HOSTILE, PWNED

pytestmark = pytest.mark.slow(30)

STORY = "application/vnd.loopat.transcript+json"
LOAD = "%reload_ext loopat_jupyter"


def loops_of(page: NotebookPage, cell: int) -> list[str]:
    """The loops that the outputs of a cell tell of, in the file."""
    outputs = json.loads(page.on_disk())["cells"][cell]["outputs"]
    return [o["data"][STORY]["loop_id"] for o in outputs if STORY in o.get("data", {})]


async def does_nothing(page: NotebookPage, output: Locator) -> None:
    """Hostile text is on the page, and that is all."""
    await expect(output).to_contain_text("the end of it")
    assert await page.page.evaluate(PWNED) is None
    await expect(output.locator(ACTIVE)).to_have_count(0)
    for link in await output.locator("a[href]").all():
        assert (await link.get_attribute("href") or "").startswith(("http", "#")), link


async def test_a_running_cell_asks_and_leaves_a_story_that_does_nothing(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop(f"Cell {face.value}")
    script = model.script(
        [Text(HOSTILE), bash(f"cat <<'EOF'\n{HOSTILE}\nEOF")],
        [Text(f"{HOSTILE}\n\n```html\n{HOSTILE}\n```\n\nAll of it is told.")],
    )
    page = await open_notebook(face, LOAD, f"%%loop --loop {loop_id}\n{script.message('hello')}")
    await page.run(0)
    await page.start(1)
    output = page.output(1)
    prompt = output.get_by_role("region", name="Loop choice")
    await prompt.get_by_role("button", name="Allow", exact=True).click()
    await page.idle(1)

    await expect(output).to_contain_text("All of it is told.")
    await expect(output.locator(".loopat-prompt")).to_have_count(0)
    await output.locator("summary").first.click()
    await does_nothing(page, output)
    await page.picture("magic")

    await page.save()
    saved_file.hold_no_secret(page)
    assert loops_of(page, 1) == [loop_id]
    await page.reload()
    await expect(page.output(1)).to_contain_text("All of it is told.")
    await does_nothing(page, page.output(1))


async def test_a_cell_goes_on_with_its_loop_in_a_new_kernel(
    open_notebook: OpenNotebook, face: Face, model: MockModel
) -> None:
    script = model.script([Text("First.")], [Text("Second.")])
    cell = f"%%loop\n{script.message('again')}"
    page = await open_notebook(face, LOAD, cell, own_kernel=True)
    await page.run(0)
    await page.run(1)
    await expect(page.output(1)).to_contain_text("First.")
    await page.save()
    first = loops_of(page, 1)
    await page.restart_kernel()
    await page.run(0)
    await page.run(1)
    await expect(page.output(1)).to_contain_text("Second.")
    await page.save()
    assert loops_of(page, 1) == first != []


async def test_a_chat_without_its_kernel_is_still_a_story(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop(f"Story {face.value}")
    script = model.script([Text(f"I have said {HOSTILE}")])
    page = await open_notebook(face, show(loop_id), own_kernel=True)
    await page.run(0)
    chat = await Chat(page).live()
    await chat.send(script.message("tell me"))
    await chat.ended(0)
    story = page.output(0).locator("details", has_text="Transcript of").last
    await expect(story.locator("summary").first).to_contain_text("1 turn")
    assert await story.get_attribute("open") is None, "folded while the chat is live"
    await page.save()
    saved_file.hold_no_secret(page)
    assert loops_of(page, 0) == [loop_id]

    await page.restart_kernel()
    await page.reload()
    story = page.output(0).locator("details", has_text="Transcript of").last
    await story.locator("summary").first.click()
    await expect(story).to_contain_text("I have said")
    await does_nothing(page, story)
    await page.picture("story-without-kernel")
