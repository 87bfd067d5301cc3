"""Files that a person gives to a loop: dropped, picked, pasted; and those that cannot be taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Route, expect

from tests.support.mock_model import MockModel

from .chat import Chat, show
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(15)

TRANSFER = """([name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], name));
  return transfer;
}"""


async def test_files_are_dropped_picked_and_pasted_into_the_workdir(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel, tmp_path: Path
) -> None:
    loop_id = notebook_server.new_loop("Files")
    page = await open_notebook(Face.LAB, show(loop_id))
    await page.run(0)
    chat = await Chat(page).live()
    workdir = notebook_server.workdir(loop_id)
    list_ = chat.region.get_by_role("group", name="Files on their way")

    dropped = await page.page.evaluate_handle(TRANSFER, ["my data.csv", "a,b\n1,2\n"])
    await chat.region.dispatch_event("dragover", {"dataTransfer": dropped})
    await expect(chat.region).to_have_attribute("data-drop", "true")
    await chat.region.dispatch_event("drop", {"dataTransfer": dropped})
    await expect(list_).to_contain_text("my data.csv")
    await expect(list_).to_contain_text("in the loop's workdir")
    await expect(chat.field).to_have_value('"my data.csv" ')
    assert (workdir / "my data.csv").read_text() == "a,b\n1,2\n"

    large = bytes(range(256)) * (9 << 12)  # more than one request may carry
    (tmp_path / "large.bin").write_bytes(large)
    async with page.page.expect_file_chooser() as chooser:
        await chat.region.get_by_role("button", name="Put files into the loop").click()
    await (await chooser.value).set_files(tmp_path / "large.bin")
    await expect(chat.field).to_have_value('"my data.csv" large.bin ')
    assert (workdir / "large.bin").read_bytes() == large

    await chat.field.evaluate(
        """(field, made) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File(["png"], "shot.png"));
          const more = { bubbles: true, cancelable: true };
          field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, ...more }));
        }"""
    )
    await expect(chat.field).to_have_value('"my data.csv" large.bin shot.png ')
    assert (workdir / "shot.png").read_text() == "png"
    await chat.accessible()
    await page.picture("files")

    await chat.field.press("Enter")
    await chat.ended(0)
    await expect(list_).to_be_hidden()


async def test_a_file_that_cannot_be_taken_is_said_and_the_rest_goes_on(
    open_notebook: OpenNotebook, notebook_server: NotebookServer
) -> None:
    """Through the kernel, too: the page's own way is shut."""
    loop_id = notebook_server.new_loop("Refused files")
    page = await open_notebook(Face.NOTEBOOK, show(loop_id), own_kernel=True)
    await page.page.route(re.compile("/loopat/api/"), _nobody)
    await page.run(0)
    chat = await Chat(page).live()
    await expect(chat.region).to_contain_text("through the kernel")
    list_ = chat.region.get_by_role("group", name="Files on their way")
    picker = chat.region.locator("input[type=file]")
    await picker.set_input_files(
        [
            {"name": "huge.bin", "mimeType": "", "buffer": b"x" * (9 << 20)},
            {"name": "small.txt", "mimeType": "", "buffer": b"through the kernel"},
        ]
    )
    await expect(list_).to_contain_text("Through the kernel a file has at most 8 MiB")
    await expect(chat.field).to_have_value("small.txt ")
    small = notebook_server.workdir(loop_id) / "small.txt"
    assert small.read_text() == "through the kernel"
    await list_.get_by_role("button", name="Remove huge.bin from the list").click()
    await expect(list_).not_to_contain_text("huge.bin")
    notebook_server.loop_api("DELETE", f"loops/{loop_id}")
    clip = chat.region.get_by_role("button", name="Put files into the loop")
    await expect(clip).to_be_disabled()


async def _nobody(route: Route) -> None:
    await route.fulfill(status=404, content_type="text/html", body="<p>nobody here</p>")
