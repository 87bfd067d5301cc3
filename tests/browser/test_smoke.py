"""The ground under the browser tests: any widget works in both front ends, with a base URL."""

from __future__ import annotations

import re

from playwright.async_api import expect

from .conftest import OpenNotebook
from .notebook_page import Face

COUNTER = '''
import anywidget, traitlets

class Counter(anywidget.AnyWidget):
    _esm = """
    export default {
      render({ model, el }) {
        const button = document.createElement("button");
        const show = () => { button.textContent = `count ${model.get("count")}`; };
        button.addEventListener("click", () => {
          model.set("count", model.get("count") + 1);
          model.save_changes();
        });
        model.on("change:count", show);
        show();
        el.append(button);
      },
    };
    """
    count = traitlets.Int(0).tag(sync=True)

counter = Counter()
counter
'''


async def test_a_widget_talks_to_its_kernel(open_notebook: OpenNotebook, face: Face) -> None:
    page = await open_notebook(face, COUNTER, "counter.count")
    output = await page.run(0)
    await output.get_by_role("button", name="count 0").click()
    await expect(output.get_by_role("button", name="count 1")).to_be_visible()
    await expect(await page.run(1)).to_contain_text("1")
    await page.save()
    assert re.search(r'"source".*counter = Counter', page.on_disk(), re.DOTALL)
    await page.picture("smoke")
