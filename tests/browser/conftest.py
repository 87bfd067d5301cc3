"""Fixtures of the browser tests: one browser, one server and one warm kernel for all of them.

The tests of this folder are coroutines on one event loop of the whole session, since the browser
and its pages belong to the loop that made them.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.support.mock_model import MockModel
from tests.support.server import mock_provider

from . import chromium
from .notebook_page import Face, NotebookPage, logged_in, picture_directory
from .notebook_server import NotebookServer

PATIENCE = 30_000
"""Milliseconds; the upper bound of every wait for the page, never how long a test takes."""

DESKTOP = {"width": 1280, "height": 900}

HERE = Path(__file__).parent

FAILED = pytest.StashKey[bool]()

Profiles = Callable[[NotebookServer], Awaitable[BrowserContext]]
OpenNotebook = Callable[..., Awaitable[NotebookPage]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Let the fixtures know, at the end, whether the test failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chrome() -> AsyncIterator[Browser]:
    """The browser; started once."""
    chromium.executable()
    expect.set_options(timeout=PATIENCE)
    async with async_playwright() as playwright:
        running = await chromium.launch(playwright)
        yield running
        await running.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept."""
    return picture_directory(tmp_path_factory.getbasetemp() / "screenshots")


@pytest.fixture(scope="session")
def notebook_server(
    tmp_path_factory: pytest.TempPathFactory, model: MockModel
) -> Iterator[NotebookServer]:
    """The shared server with both front ends; its loops talk to the scripted model."""
    with NotebookServer(
        tmp_path_factory.mktemp("notebooks"), model=mock_provider(model.url)
    ) as running:
        yield running


@pytest.fixture(scope="session")
def warm_kernel(notebook_server: NotebookServer) -> str:
    """The id of a kernel that tests share which do nothing to it."""
    return notebook_server.open_session(notebook_server.write_notebook("warm", [""]))


@pytest_asyncio.fixture(loop_scope="session")
async def profiles(chrome: Browser) -> AsyncIterator[Profiles]:
    """One browser profile for each server, logged in as its owner."""
    made: dict[NotebookServer, BrowserContext] = {}

    async def profile(server: NotebookServer) -> BrowserContext:
        if server not in made:
            made[server] = await chrome.new_context(viewport=DESKTOP, reduced_motion="reduce")
            made[server].set_default_timeout(PATIENCE)
            await logged_in(made[server], server)
        return made[server]

    yield profile
    for one in made.values():
        await one.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_notebook(
    profiles: Profiles,
    notebook_server: NotebookServer,
    warm_kernel: str,
    pictures: Path,
    request: pytest.FixtureRequest,
) -> AsyncIterator[OpenNotebook]:
    """Makes notebooks and opens them: ``await open_notebook(Face.LAB, "print(1)", "2 + 2")``.

    Each gets the shared kernel; ``own_kernel=True`` gives it one that the test may restart or
    block; on a ``server`` of the test's own it has one of its own anyway. When the test ends, no
    page may have asked a foreign host or had an error uncaught. A failed test leaves pictures.
    """
    numbers = itertools.count(1)
    opened: list[NotebookPage] = []
    own: list[str] = []
    test = request.node.name.translate(str.maketrans("[]/ ", "----")).strip("-")

    async def make(
        face: Face,
        *cells: str,
        own_kernel: bool = False,
        server: NotebookServer = notebook_server,
        name: str = test,
    ) -> NotebookPage:
        path = server.write_notebook(f"{name}-{next(numbers)}", cells)
        if server is notebook_server:
            kernel = server.open_session(path, None if own_kernel else warm_kernel)
            if own_kernel:
                own.append(kernel)
        page = NotebookPage(await (await profiles(server)).new_page(), server, face, path, pictures)
        opened.append(page)
        return await page.open()

    yield make
    for number, page in enumerate(opened, 1):
        if request.node.stash.get(FAILED, False):
            await page.picture(f"FAILED-{test}-{number}")
    for page in opened:
        await page.close()
        page.server.forget_settings()
    for kernel in own:
        notebook_server.call("DELETE", f"kernels/{kernel}")
    for page in opened:
        page.hold_invariants()


@pytest.fixture(params=list(Face), ids=lambda face: face.value)
def face(request: pytest.FixtureRequest) -> Face:
    """Both front ends, one after the other."""
    one: Face = request.param
    return one
