"""The pictures of the documentation, taken of the real thing.

They are taken in every run, so that they can be; only where ``LOOPAT_PICTURES`` names a folder are
they put there (``docs/images``, see CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.async_api import Locator, expect

from tests.support.mock_model import MockModel, Text, Thinking, bash

from .chat import Chat
from .conftest import OpenNotebook
from .notebook_page import Face
from .notebook_server import NotebookServer

pytestmark = pytest.mark.slow(12)

LIMIT = 200_000
"""Bytes of a picture; they are in the repository."""

WINDOW = {"width": 1120, "height": 940}
CELL = 'from loopat_jupyter.widgets import LoopChat\n\nLoopChat("{loop}")'
QUESTION = "Which of the files has the most rows without a price?"
REQUEST = "Remove those rows, but keep a copy of the file."
FILES = {
    "march.csv": "item,price\nlamp,24\nchair,\ntable,180\nrug,\n",
    "april.csv": "item,price\nlamp,24\nchair,65\ntable,175\nrug,90\n",
    "may.csv": "item,price\nlamp,\nchair,61\ntable,179\nrug,88\n",
}
ANSWER = """\
**march.csv**: two of its four rows have no price.

| file | rows | without a price |
|---|---:|---:|
| march.csv | 4 | 2 |
| april.csv | 4 | 0 |
| may.csv | 4 | 1 |

To see them in pandas:

```python
prices = pd.read_csv("march.csv")
prices[prices.price.isna()]
```
"""


async def test_the_pictures_of_the_documentation(
    open_notebook: OpenNotebook, notebook_server: NotebookServer, model: MockModel, pictures: Path
) -> None:
    loop_id = notebook_server.new_loop("Furniture prices")
    workdir = notebook_server.workdir(loop_id)
    workdir.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (workdir / name).write_text(text)
    model.script(
        [Thinking("Count the lines that end in a comma."), bash('grep -c ",$" *.csv')],
        [Text(ANSWER)],
        words=QUESTION,
    )
    model.script(
        [
            Text("I keep a copy, and then drop the lines that end in a comma."),
            bash("cp march.csv march.bak && sed -i '/,$/d' march.csv"),
        ],
        [Text("Done: `march.csv` has two rows now, `march.bak` is as it was.")],
        words=REQUEST,
    )

    lab = await open_notebook(Face.LAB, CELL.format(loop=loop_id), name="furniture")
    await lab.page.set_viewport_size(WINDOW)
    await lab.calm()
    await lab.run(0)
    chat = await Chat(lab).live()
    await chat.send(QUESTION)
    await chat.allow()
    await chat.ended(0)
    await _take(chat, chat.region, "notebook-chat", pictures)
    await lab.dark()
    await _take(chat, None, "notebook-dark", pictures)
    await lab.dark(False)
    await chat.send(REQUEST)
    await _take(chat, await chat.asked(), "notebook-choice", pictures)
    await chat.allow()
    await chat.ended(1)

    notebook = await open_notebook(Face.NOTEBOOK, CELL.format(loop=loop_id), name="furniture")
    await notebook.page.set_viewport_size(WINDOW)
    await notebook.run(0)
    chat = await Chat(notebook).live()
    await expect(await chat.ended(1)).to_contain_text("Done")
    await _take(chat, None, "notebook-7", pictures)


async def _take(chat: Chat, of: Locator | None, name: str, pictures: Path) -> None:
    """A picture of a part of the page, or of the whole window."""
    await chat.notebook.page.mouse.move(0, 0)
    path = pictures / f"{name}.png"
    source = chat.notebook.page if of is None else of
    await source.screenshot(path=path, animations="disabled", caret="hide")
    assert path.stat().st_size < LIMIT
    destination = os.environ.get("LOOPAT_PICTURES")
    if destination:
        shutil.copy(path, destination)
