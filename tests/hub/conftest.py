"""One Hub for the room, two people with a server each, and what their credentials can be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.caller import Caller, Recorder
from tests.support.hub import Browser, Hub, PersonsServer
from tests.support.mock_model import MockModel
from tests.support.server import mock_provider

ANA = "ana@uni"
"""A name that addresses and cookies must quote."""
BEN = "ben"
ROOT = "root@it"
"""An administrator of the Hub."""


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub"))
    for name in (ANA, BEN, ROOT):
        configure(hub.home(name) / ".loopat", model)
    with hub:
        yield hub


def configure(home: Path, model: MockModel) -> None:
    """A loopat home whose model is the scripted one."""
    home.mkdir(mode=0o700)
    (home / "config.json").write_text(json.dumps(mock_provider(model.url)))


@pytest.fixture(scope="package")
def people(hub: Hub) -> Iterator[Callable[[str], Browser]]:
    """A person's browser: logged in, their server running, let in by it."""
    browsers: dict[str, Browser] = {}

    def of(name: str) -> Browser:
        if name not in browsers:
            browsers[name] = Browser(hub, name).log_in()
        browser = browsers[name]
        if hub.server_of(name) is None:
            browser.spawn()
        return browser

    yield of
    for browser in browsers.values():
        browser.close()


@pytest.fixture
def ana(people: Callable[[str], Browser]) -> Browser:
    return people(ANA)


@pytest.fixture
def ben(people: Callable[[str], Browser]) -> Browser:
    return people(BEN)


Session = Callable[..., Caller]


@pytest.fixture
async def session(hub: Hub, recorder: Recorder) -> AsyncIterator[Session]:
    """A person's session in their browser: ``session(ana)``, with cookies and XSRF header."""
    async with contextlib.AsyncExitStack() as stack:

        def make(browser: Browser, server: str = "") -> Caller:
            caller = Caller(
                PersonsServer(hub, browser.name, server),
                recorder,
                headers={"Cookie": browser.cookie(server), **browser.headers(server)},
            )
            stack.push_async_callback(caller.http.aclose)
            return caller

        yield make


@pytest.fixture
async def caller(hub: Hub, recorder: Recorder) -> AsyncIterator[Session]:
    """Whoever sends these headers to that person's server."""
    async with contextlib.AsyncExitStack() as stack:

        def make(name: str, server: str = "", **headers: str) -> Caller:
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            one = Caller(PersonsServer(hub, name, server), recorder, headers=sent)
            stack.push_async_callback(one.http.aclose)
            return one

        yield make
