"""A person's day with a loop, in both front ends: one story, since loading a front end is slow."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, expect

from tests.support.mock_model import Gate, Hold, MockModel, Text, Thinking, Tool, ask, asked, bash

from . import saved_file
from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(15)


async def test_a_person_talks_decides_and_stops(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Talk")
    page = await open_notebook(face, show(loop_id))
    await page.run(0)
    chat = await Chat(page).live()
    await expect(chat.region).to_contain_text("Nothing has been said yet")
    await expect(chat.region).to_contain_text("Talk")
    sandbox = notebook_server.loop_api("GET", f"loops/{loop_id}")["sandbox"]
    await expect(chat.region.locator(".loopat-badge").first).to_contain_text(f"{sandbox} · ")

    await _streams(chat, model)
    await _queued_and_allowed(chat, model, notebook_server, loop_id)
    await _denied(chat, model, notebook_server, loop_id)
    await _answers_questions(chat, model)
    await _stops(chat, model)
    await _recalls(chat)
    await _judges_a_change(chat, model, notebook_server, loop_id)
    await _takes_files(chat, notebook_server, loop_id)
    await chat.accessible()
    await page.picture("conversation")
    await _looks(chat)
    await page.save()
    saved_file.hold_no_secret(page)


async def _streams(chat: Chat, model: MockModel) -> None:
    """Text appears while the turn runs; thinking is folded; Markdown is drawn."""
    gate = Gate()
    script = model.script(
        [
            Thinking("a secret thought"),
            Text("## Heading\n\nFirst "),
            Hold(gate),
            Text("**last**.\n\n```python\nprint(1)\n```\n\n3. third\n\n"),
            Text("| a | b |\n|---|---:|\n| x | 1 |\n"),
        ]
    )
    await chat.send(script.message("stream"))
    turn = chat.turns.nth(0)
    await expect(turn).to_contain_text("First")
    await expect(turn).to_have_attribute("data-state", "running")
    await expect(chat.stop).to_be_visible()
    await expect(turn).not_to_contain_text("last")
    await expect(chat.foot).to_have_text(re.compile(r"^Working · \d"))
    gate.open()
    await chat.ended(0)
    await expect(chat.foot).to_have_text(re.compile(r"^Done · \d+(\.\d)? s.*\d in · \d.* out"))
    await expect(chat.announcer).to_contain_text("The answer is complete: ")
    await expect(chat.stop).to_be_hidden()
    await expect(turn.get_by_role("heading", name="Heading")).to_be_visible()
    await expect(turn.locator("strong")).to_have_text("last")
    await _copies(chat, turn.get_by_role("button", name="Copy code"))
    await expect(turn.get_by_role("list")).to_have_attribute("start", "3")
    await expect(turn.get_by_role("cell", name="1")).to_have_attribute("align", "right")
    await expect(turn.get_by_text("a secret thought")).to_be_hidden()
    await turn.get_by_text("Thought", exact=True).click()
    await expect(turn.get_by_text("a secret thought")).to_be_visible()


async def _copies(chat: Chat, button: Locator) -> None:
    page = chat.notebook.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await button.click()
    await expect(button).to_have_text("Copied")
    assert (await page.evaluate("navigator.clipboard.readText()")).strip() == "print(1)"


async def _queued_and_allowed(
    chat: Chat, model: MockModel, server: NotebookServer, loop_id: str
) -> None:
    """A message behind a running turn waits visibly; its command runs when it is allowed."""
    gate = Gate()
    first = model.script([Text("busy"), Hold(gate)])
    second = model.script([bash("echo it ran > ran.txt; cat ran.txt")], [Text("I ran it.")])
    await chat.send(first.message("hold"))
    await expect(chat.turns.nth(1)).to_contain_text("busy")
    await chat.send(second.message("run"))
    await expect(chat.waiting).to_contain_text("Queued: next")
    gate.open()
    choice = await chat.asked()
    await expect(chat.announcer).to_contain_text("Permission needed: ")
    await expect(chat.waiting).to_be_hidden()
    await expect(choice).to_contain_text("echo it ran > ran.txt; cat ran.txt")
    assert not (server.workdir(loop_id) / "ran.txt").exists()
    allow = choice.get_by_role("button", name="Allow", exact=True)
    ground = await allow.evaluate("button => getComputedStyle(button).backgroundColor")
    await allow.hover()
    await expect(allow).to_have_css("background-color", ground)  # its name is white on it
    await chat.accessible()
    await chat.notebook.picture("permission")
    await choice.get_by_role("button", name="Allow and remember").click()
    turn = await chat.ended(2)
    await expect(chat.choices.nth(0)).to_have_attribute("data-state", "allowed")
    said = chat.choices.nth(0).get_by_role("status")
    await expect(said).to_contain_text("Allowed")
    await expect(said).to_contain_text("cannot be remembered")  # two commands are no rule
    card = turn.locator("[data-loopat-tool=Bash]")
    await expect(card).to_have_attribute("data-state", "ok")
    await card.locator("summary").click()
    await expect(card.locator("code").last).to_have_text("it ran")
    await expect(turn).to_contain_text("I ran it.")


async def _denied(chat: Chat, model: MockModel, server: NotebookServer, loop_id: str) -> None:
    script = model.script([bash("touch denied.txt")], [Text("Then I leave it.")])
    await chat.send(script.message("deny"))
    deny = (await chat.asked()).get_by_role("button", name="Deny")
    await deny.press("Enter")  # in a notebook's command mode this key is Jupyter's
    turn = await chat.ended(3)
    choice = turn.locator("[data-loopat-choice]")
    await expect(choice).to_have_attribute("data-state", "denied")
    await expect(choice.locator("button:enabled")).to_have_count(0)
    assert not (server.workdir(loop_id) / "denied.txt").exists()
    assert "User denied permission" in script.requests[-1].tool_results()[-1]
    await expect(turn).to_contain_text("Then I leave it.")


async def _answers_questions(chat: Chat, model: MockModel) -> None:
    """One of several, several of several, and words of one's own."""
    script = model.script(
        [
            ask(
                asked("Which color?", "Red", "Blue"),
                asked("Which fruits?", "Apple", "Pear", "Plum", multi=True),
                asked("Which name?", "Ann", "Bob"),
            )
        ],
        [Text("Thank you.")],
    )
    await chat.send(script.message("ask"))
    choice = await chat.asked()
    await choice.get_by_role("radio", name="Blue").check()
    await choice.get_by_role("checkbox", name="Apple").check()
    await choice.get_by_role("checkbox", name="Plum").press("Space")
    await choice.get_by_role("button", name="Answer").click()
    await expect(choice.get_by_role("status")).to_contain_text("Every question needs an answer")
    await choice.get_by_role("textbox").last.fill("my own words")
    await chat.notebook.picture("question")
    await choice.get_by_role("button", name="Answer").click()
    turn = await chat.ended(4)
    await expect(turn.locator("[data-loopat-choice]")).to_have_attribute("data-state", "answered")
    told = script.requests[-1].tool_results()[-1]
    for word in ("Blue", "Apple", "Plum", "my own words"):
        assert word in told
    for word in ("Red", "Pear", "Ann"):
        assert word not in told


async def _stops(chat: Chat, model: MockModel) -> None:
    """Stop ends the turn, keeps what was said, and the loop goes on."""
    script = model.script([Text("I begin "), Hold(Gate())])
    await chat.send(script.message("stop"))
    await expect(chat.turns.nth(5)).to_contain_text("I begin")
    await chat.stop.click()
    turn = await chat.ended(5, "interrupted")
    await expect(turn).to_contain_text("I begin")
    await expect(turn).to_contain_text("Stopped.")
    mode = chat.region.get_by_role("combobox", name="Permission mode")
    await mode.select_option("Run everything unasked")
    await chat.send(model.script([bash("true")], [Text("Still here.")]).message("last"))
    turn = await chat.ended(6)
    await expect(turn).to_contain_text("Still here.")
    await expect(turn.locator("[data-loopat-choice]")).to_have_count(0)
    await mode.select_option("Loop's own mode")


async def _recalls(chat: Chat) -> None:
    """Arrow up brings back what was sent, Shift+Enter breaks the line, Ctrl+S is the notebook's."""
    await chat.field.press("ArrowUp")
    await expect(chat.field).to_have_value(re.compile("^last "))
    await chat.field.press("ArrowUp")
    await expect(chat.field).to_have_value(re.compile("^stop "))
    await chat.field.press("ArrowDown")
    await expect(chat.field).to_have_value(re.compile("^last "))
    await chat.field.fill("one")
    await chat.field.press("Shift+Enter")
    await chat.field.press_sequentially("two")
    await expect(chat.field).to_have_value("one\ntwo")
    await chat.field.press("Control+z")
    await expect(chat.field).not_to_have_value("one\ntwo")
    await chat.field.press("Control+Shift+z")
    await expect(chat.field).to_have_value("one\ntwo")
    await expect(chat.turns).to_have_count(7)
    await chat.notebook.saves(chat.field.press("Control+s"))
    await chat.field.press("Tab")  # the order of the keyboard is that of the eye
    await expect(chat.region.get_by_role("combobox", name="Permission mode")).to_be_focused()
    for name in ("Put files into the loop", "Send message"):
        await chat.notebook.page.keyboard.press("Tab")
        await expect(chat.region.get_by_role("button", name=name)).to_be_focused()
    await chat.field.fill("")


async def _judges_a_change(
    chat: Chat, model: MockModel, server: NotebookServer, loop_id: str
) -> None:
    """An edit is shown as what goes and what comes; nothing in it is obeyed or hidden."""
    after = "it <b>changed</b>\u202e"
    edit = {"file_path": "ran.txt", "old_string": "it ran", "new_string": after}
    script = model.script([Tool("Edit", edit)], [Text("Changed.")])
    await chat.send(script.message("edit"))
    choice = await chat.asked()
    await expect(choice.locator(".loopat-path")).to_have_text("ran.txt")
    await expect(choice.locator(".loopat-removed")).to_contain_text("it ran")
    await expect(choice.locator(".loopat-added")).to_contain_text("it <b>changed</b>")
    await expect(choice.locator(".loopat-added .loopat-mark")).to_be_visible()
    await expect(choice).to_contain_text("1 character in it cannot be seen")
    await chat.accessible()
    await chat.notebook.picture("change")
    await choice.get_by_role("button", name="Allow and remember").click()
    turn = await chat.ended(7)
    said = turn.locator("[data-loopat-choice]").get_by_role("status")
    await expect(said).to_contain_text("Not asked again in this loop for Edit")
    assert (server.workdir(loop_id) / "ran.txt").read_text() == f"{after}\n"


FILE = """() => {
  const transfer = new DataTransfer();
  transfer.items.add(new File(["a,b\\n1,2\\n"], "dropped.csv", { type: "text/csv" }));
  return transfer;
}"""


async def _takes_files(chat: Chat, server: NotebookServer, loop_id: str) -> None:
    """Files that are dropped on the chat or picked are in the loop's workdir."""
    page = chat.notebook.page
    transfer = await page.evaluate_handle(FILE)
    for event in ("dragenter", "dragover", "drop"):
        await chat.region.dispatch_event(event, {"dataTransfer": transfer})
    files = chat.region.get_by_role("group", name="Files on their way")
    await expect(files).to_contain_text("in the loop's workdir")
    assert (server.workdir(loop_id) / "dropped.csv").read_text() == "a,b\n1,2\n"
    async with page.expect_file_chooser() as chooser:
        await chat.region.get_by_role("button", name="Put files into the loop").click()
    name = "<img src=x onerror=window.pwned=1>.txt"
    await (await chooser.value).set_files({"name": name, "mimeType": "", "buffer": b"picked"})
    await expect(files.get_by_text("in the loop's workdir")).to_have_count(2)
    await expect(files).to_contain_text(name)
    assert (server.workdir(loop_id) / name).read_bytes() == b"picked"
    await expect(chat.field).to_have_value(re.compile("dropped.csv"))
    await chat.field.fill("")


async def _looks(chat: Chat) -> None:
    """Dark theme and a narrow window: everything fits and can be read."""
    page = chat.notebook
    await page.dark()
    await chat.accessible()
    await page.picture("dark")
    await page.narrow(400)
    await chat.fits()
    await chat.accessible()
    await page.picture("dark-400")
    await page.dark(False)
    await chat.accessible()
    await page.picture("light-400")
