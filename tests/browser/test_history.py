"""A loop with a past: the newest part first, the rest on request, what is long in pieces."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from loopat_jupyter.client import Client
from tests.support.mock_model import MockModel, Text, bash

from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(5)

TURNS = 45
SHOWN = 20
"""Turns of one page of history."""


async def test_a_long_history_is_shown_from_its_end_and_paged_back(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Long")
    with Client(notebook_server.url, notebook_server.token) as client:
        loop = client.loops.get(loop_id)
        for number in range(TURNS):
            script = model.script([Text(f"answer {number}. "), bash("echo hi")], [Text("Done.")])
            loop.ask(script.message(f"question {number}"), permission_mode="auto")
    page = await open_notebook(Face.NOTEBOOK, show(loop_id))
    await page.run(0)
    chat = await Chat(page).live()
    await expect(chat.turns).to_have_count(SHOWN)
    await expect(chat.turns.last).to_contain_text(f"question {TURNS - 1}")
    await expect(chat.turns.last).to_be_in_viewport()
    earlier = chat.region.get_by_role("button", name="Show earlier messages")
    for shown in (2 * SHOWN, TURNS):
        first = await chat.turns.first.get_attribute("data-loopat-turn")
        await earlier.click()
        await expect(chat.turns).to_have_count(shown)
        still = chat.region.locator(f"[data-loopat-turn={first}]")
        await expect(still).to_be_in_viewport()  # what was read does not jump away
    await expect(earlier).to_be_hidden()
    said = await chat.turns.evaluate_all(
        "turns => turns.map(turn => turn.textContent.match(/question (\\d+)/)[1])"
    )
    assert said == [str(number) for number in range(TURNS)]
    card = chat.turns.first.locator("[data-loopat-tool=Bash]")
    await card.locator("summary").click()
    await expect(card.locator("code").last).to_have_text("hi")
    await chat.accessible()
