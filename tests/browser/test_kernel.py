"""The chat and the notebook's kernel: it answers past a busy one, and through one where it must."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Route, expect

from tests.support.mock_model import Gate, Hold, MockModel, Text, ask, asked, bash

from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(25)

BLOCK = """\
import pathlib, time
while not pathlib.Path("go-{loop}").exists():
    time.sleep(0.02)
"the kernel is free"
"""


async def test_a_choice_is_answered_while_the_kernel_is_busy(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Busy")
    page = await open_notebook(face, show(loop_id), BLOCK.format(loop=loop_id), own_kernel=True)
    await page.run(0)
    chat = await Chat(page).live()
    await page.start(1)
    busy = page.cell(1).locator(".jp-InputPrompt")
    await expect(busy).to_have_text("[*]:")

    script = model.script(
        [bash("echo meanwhile")], [ask(asked("Now?", "Yes", "No"))], [Text("All done.")]
    )
    await chat.send(script.message("busy"))
    await chat.allow()
    choice = await chat.asked()
    await choice.get_by_role("radio", name="Yes").check()
    await choice.get_by_role("button", name="Answer").click()
    await expect(await chat.ended(0)).to_contain_text("All done.")

    await expect(busy).to_have_text("[*]:")
    await page.picture("busy-kernel")
    (notebook_server.root / f"go-{loop_id}").touch()
    await page.idle(1)
    await expect(page.output(1)).to_contain_text("the kernel is free")


ASK = """\
from IPython.display import display
from loopat_jupyter.client import connect
from loopat_jupyter.widgets import ChoicePrompt
loop = connect().loops.get("{loop}")
def on_page(choice):
    display(ChoicePrompt(choice))
    return "wait"
result = loop.ask({message!r}, on_choice=on_page)
print("the agent said:", result.text)
"""


async def test_a_prompt_answers_the_call_that_the_kernel_waits_in(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    """``loop.ask`` blocks the kernel; its choice is on the page, and in the chat too: where it is
    answered in one of them, the other says so and takes no answer any more."""
    loop_id = notebook_server.new_loop("Prompt")
    script = model.script([bash("echo prompted")], [Text("Thank you.")])
    ask_cell = ASK.format(loop=loop_id, message=script.message("prompt"))
    page = await open_notebook(face, show(loop_id), ask_cell)
    await page.run(0)
    chat = await Chat(page).live()
    await page.start(1)
    prompt = page.output(1).get_by_role("region", name="Loop choice")
    await expect(prompt).to_contain_text("echo prompted")
    await chat.asked()
    await chat.accessible()
    await page.picture("prompt")
    where = prompt if face is Face.LAB else chat.region
    await where.get_by_role("button", name="Allow", exact=True).click()
    await page.idle(1)
    await expect(page.output(1)).to_contain_text("the agent said: Thank you.")
    await expect(prompt).to_contain_text("Allowed")
    await expect(prompt.locator("button:enabled")).to_have_count(0)
    await chat.ended(0)
    await expect(chat.choices).to_have_attribute("data-state", "allowed")


async def test_where_the_page_cannot_reach_the_server_everything_goes_through_the_kernel(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Around")
    page = await open_notebook(face, show(loop_id), own_kernel=True)
    blocked: list[str] = []

    async def refuse(route: Route) -> None:
        blocked.append(route.request.url)
        await route.fulfill(status=404, content_type="text/html", body="<p>nobody here</p>")

    await page.page.route(re.compile("/loopat/api/"), refuse)
    await page.run(0)
    chat = await Chat(page).live()
    assert blocked
    await expect(chat.region).to_contain_text("through the kernel")

    gate = Gate()
    script = model.script(
        [Text("I ask "), Hold(gate), bash("echo around > around.txt")],
        [Text("and go on.")],
    )
    await chat.send(script.message("kernel"))
    await expect(chat.answers.first).to_contain_text("I ask")
    gate.open()
    await chat.allow()
    await expect(await chat.ended(0)).to_contain_text("and go on.")
    assert (notebook_server.workdir(loop_id) / "around.txt").exists()

    await chat.send(model.script([Text("long"), Hold(Gate())]).message("stop"))
    await expect(chat.turns.nth(1)).to_contain_text("long")
    await chat.stop.click()
    await chat.ended(1, "interrupted")
    await page.picture("through-kernel")
