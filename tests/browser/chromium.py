"""The browser of these tests: the system's Chromium, driven by Playwright.

Playwright would download a browser of its own; these tests take the one that the distribution
maintains. Where there is none the tests are skipped and say so, except in CI, where it must be.
"""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.async_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = (
    "--no-sandbox",  # tests run as root in containers; the pages are our own
    "--disable-dev-shm-usage",  # /dev/shm of a container is 64 MB
    "--disable-gpu",
    "--force-color-profile=srgb",  # pictures look the same on every machine
    "--font-render-hinting=none",
)


def executable() -> str:
    """The path of the browser; skips the test where there is none, fails it in CI."""
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("CI needs Chromium: apt-get install chromium")
    pytest.skip("no Chromium on this machine: apt-get install chromium")


async def launch(playwright: Playwright) -> Browser:
    return await playwright.chromium.launch(
        executable_path=executable(), args=list(ARGUMENTS), chromium_sandbox=False
    )
