"""What breaks under a chat: the page, the kernel, the server. Nothing is lost, and it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.support.mock_model import Gate, Hold, MockModel, Text, bash
from tests.support.server import mock_provider

from . import saved_file
from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(50)


async def test_a_turn_outlives_the_page_and_the_kernel(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Life")
    page = await open_notebook(face, show(loop_id), own_kernel=True)
    await page.run(0)
    chat = await Chat(page).live()
    gate = Gate()
    script = model.script([Text("before "), Hold(gate), Text("after")])
    await chat.send(script.message("reload"))
    await expect(chat.answers).to_contain_text("before")

    await page.save()
    await page.reload()
    await chat.live()
    await expect(chat.answers).to_contain_text("before")
    await expect(chat.stop).to_be_visible()
    gate.open()
    await expect(await chat.ended(0)).to_contain_text("before after")

    second = Gate()
    script = model.script([Text("kernel "), Hold(second), Text("gone")])
    await chat.send(script.message("restart"))
    await expect(chat.turns.nth(1)).to_contain_text("kernel")
    await page.restart_kernel()
    second.open()
    await page.run(0)
    await chat.live()
    await expect(await chat.ended(1)).to_contain_text("kernel gone")
    await expect(chat.turns).to_have_count(2)
    await expect(chat.story).to_contain_text("kernel gone")
    await page.save()
    story = saved_file.story(page)
    assert "before after" in story
    assert "kernel gone" in story
    saved_file.hold_no_secret(page)
    await page.picture("after-restart")


async def test_two_tabs_on_one_loop_stay_in_step(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    """JupyterLab and Notebook 7 show the same loop at once; of two answers exactly one counts."""
    loop_id = notebook_server.new_loop("Both")
    lab = await open_notebook(Face.LAB, show(loop_id))
    notebook = await open_notebook(Face.NOTEBOOK, show(loop_id))
    await asyncio.gather(lab.run(0), notebook.run(0))
    left, right = await Chat(lab).live(), await Chat(notebook).live()

    gate = Gate()
    script = model.script([Text("one "), Hold(gate), Text("two")])
    await left.send(script.message("both"))
    for chat in (left, right):
        await expect(chat.answers).to_contain_text("one")
        await expect(chat.stop).to_be_visible()
    gate.open()
    for chat in (left, right):
        await expect(await chat.ended(0)).to_contain_text("one two")

    script = model.script([bash("echo x >> once.txt")], [Text("So be it.")])
    await right.send(script.message("decide"))
    choices = await asyncio.gather(left.asked(), right.asked())
    allow = choices[0].get_by_role("button", name="Allow", exact=True)
    deny = choices[1].get_by_role("button", name="Deny")
    buttons = await asyncio.gather(allow.element_handle(), deny.element_handle())
    # Both at once: no waiting for a button that the other answer may have disabled meanwhile.
    await asyncio.gather(*(button.evaluate("button => button.click()") for button in buttons))
    await asyncio.gather(left.ended(1), right.ended(1))
    states = [await chat.choices.get_attribute("data-state") for chat in (left, right)]
    assert states in (["allowed"] * 2, ["denied"] * 2)
    ran = notebook_server.workdir(loop_id) / "once.txt"
    assert ran.exists() == (states[0] == "allowed")
    for chat in (left, right):
        await expect(chat.choices.locator("button:enabled")).to_have_count(0)
        await expect(chat.choices.get_by_role("status")).to_contain_text(
            "Allowed" if states[0] == "allowed" else "Denied"
        )


async def test_many_chats_on_a_page_leave_the_page_its_connections(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    """A browser opens six connections to a server; eight chats must not take them all."""
    loops = [notebook_server.new_loop(f"Number {n}") for n in range(4)]
    page = await open_notebook(Face.NOTEBOOK, *(show(loops[n % 4]) for n in range(8)))
    for cell in range(8):
        await page.run(cell)
    chats = [await Chat(page, cell).live() for cell in range(8)]
    gate = Gate()
    for chat in chats[:4]:
        script = model.script([Text("first "), Hold(gate), Text("second")])
        await chat.send(script.message("many"))
    for chat in chats:
        await expect(chat.answers).to_contain_text("first")
    await page.save()
    gate.open()
    for chat in chats:
        await expect(await chat.ended(0)).to_contain_text("first second")


async def test_chats_come_back_after_the_server_was_killed(
    open_notebook: OpenNotebook, tmp_path: Path, model: MockModel
) -> None:
    """A choice that waited is answered afterwards and its turn completes; both front ends."""
    with NotebookServer(tmp_path / "own", model=mock_provider(model.url)) as server:
        waiting, running = server.new_loop("Waiting"), server.new_loop("Running")
        chats: list[Chat] = []
        for face in Face:
            page = await open_notebook(face, show(waiting), show(running), server=server)
            await page.run(0)
            await page.run(1)
            chats += [await Chat(page, 0).live(), await Chat(page, 1).live()]
        lab, lab_running, notebook, notebook_running = chats

        question = model.script([Text("May I? "), bash("echo yes")], [Text("I did.")])
        await lab.send(question.message("wait"))
        await asyncio.gather(lab.asked(), notebook.asked())
        half = model.script([Text("half "), Hold(Gate())])
        await notebook_running.send(half.message("run"))
        await expect(lab_running.answers).to_contain_text("half")

        server.kill()
        for chat in chats:
            await expect(chat.region).to_have_attribute("data-link", "reconnecting")
        await lab.notebook.picture("reconnecting")
        server.start()
        await asyncio.gather(*(chat.live() for chat in chats))
        await asyncio.gather(lab.notebook.close_dialogs(), notebook.notebook.close_dialogs())
        await notebook.allow()
        for chat in (lab, notebook):
            await expect(await chat.ended(0)).to_contain_text("I did.")
        for chat in (lab_running, notebook_running):
            await expect(await chat.ended(0, "error")).to_contain_text("restarted")
        await lab_running.send(model.script([Text("I am back.")]).message("again"))
        for chat in (lab_running, notebook_running):
            await expect(await chat.ended(1)).to_contain_text("I am back.")
        await notebook.notebook.picture("reconnected")
