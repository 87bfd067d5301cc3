"""Fixtures of the tests that drive a real server: one shared server, fresh loops for each test."""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import distribution
from tests.support import server as servers
from tests.support.caller import Caller, Recorder
from tests.support.mock_model import MockModel
from tests.support.server import JupyterServer, mock_provider

LOG_LINES = 80


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start, however pytest itself was started.

    A shell starts its background commands with SIGINT ignored, and every child process inherits
    that: a JupyterHub would wait in vain for its servers to end, a ``loopat`` for its Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    return distribution.worker_count(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(
    config: pytest.Config, log: Any
) -> distribution.UnitScheduling | None:
    default = config.getvalue("dist") == "load"
    return distribution.UnitScheduling(config, log) if default else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Units of work that take long come first.

    Tests that hold one engine to its own ways are left out where the suite runs over another.
    """
    distribution.longest_first(items)
    for item in items:
        marker = item.get_closest_marker("builtin")
        if marker is not None and servers.ENGINE != "builtin":
            reason = f"of the engine builtin alone: {marker.args[0]}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Show the end of every running server's log below a failure."""
    report = yield
    if report.failed:
        for server in servers.running:
            tail = "".join(server.log.splitlines(keepends=True)[-LOG_LINES:])
            report.sections.append((f"log of the server at {server.directory.name}", tail))
    return report


@pytest.fixture(scope="session")
def model() -> Iterator[MockModel]:
    """The scripted model that the servers of these tests talk to."""
    with MockModel() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model: MockModel) -> Iterator[JupyterServer]:
    """The shared server: default identity, the scripted model, a ping each second."""
    with JupyterServer(
        tmp_path_factory.mktemp("shared"),
        model=mock_provider(model.url),
        options=["--LoopatExtension.ping_interval=1"],
    ) as running:
        yield running


@pytest.fixture
def new_server(tmp_path: Path, model: MockModel) -> Iterator[Callable[..., JupyterServer]]:
    """Makes servers that belong to one test (not started); whatever runs at its end is stopped."""
    made: list[JupyterServer] = []

    def make(name: str = "own", **options: object) -> JupyterServer:
        options.setdefault("model", mock_provider(model.url))
        made.append(JupyterServer(tmp_path / name, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.__exit__()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """Everything the test saw; checked against the contract's invariants when it ends."""
    recorder = Recorder()
    yield recorder
    await recorder.settle()


@pytest.fixture(scope="session")
def api_token(server: JupyterServer) -> str:
    return str(server.mint()["token"])


@pytest.fixture
async def api(server: JupyterServer, recorder: Recorder, api_token: str) -> AsyncIterator[Caller]:
    """A program with a ``la_`` token."""
    headers = {"Authorization": f"Bearer {api_token}"}
    async with Caller(server, recorder, headers=headers) as caller:
        yield caller


@pytest.fixture
async def session(server: JupyterServer, recorder: Recorder) -> AsyncIterator[Caller]:
    """A caller with the Jupyter server token."""
    async with Caller(server, recorder, headers=server.session) as caller:
        yield caller


@pytest.fixture
async def browser(server: JupyterServer, recorder: Recorder) -> AsyncIterator[Caller]:
    """A freshly logged in browser: cookies and the XSRF header."""
    cookies, headers = server.log_in()
    async with Caller(server, recorder, headers=headers, cookies=cookies) as caller:
        yield caller


@pytest.fixture
async def nobody(server: JupyterServer, recorder: Recorder) -> AsyncIterator[Caller]:
    """A caller without credentials."""
    async with Caller(server, recorder) as caller:
        yield caller


# --------------------------------------------------------------------------- a server with people

TEAM_CONFIG = '''
import json
from pathlib import Path

from jupyter_server.auth import Authorizer, IdentityProvider, User


class NamedByHeader(IdentityProvider):
    """Whoever the header names; what a deployment's own identity provider does."""

    def get_user(self, handler):
        name = handler.request.headers.get("X-User")
        return User(username=name) if name else None


class Recording(Authorizer):
    """Writes down what it is asked, and refuses who asks to be refused."""

    def is_authorized(self, handler, user, action, resource):
        request = handler.request
        entry = [request.method, request.path, user.username, action, resource]
        with Path(AUDIT).open("a") as audit:
            audit.write(json.dumps(entry) + "\\n")
        refused = request.headers.get("X-Refuse", "")
        return refused != "all" and action != refused


c.ServerApp.identity_provider_class = NamedByHeader
c.ServerApp.authorizer_class = Recording
'''


@pytest.fixture(scope="session")
def team_server(
    tmp_path_factory: pytest.TempPathFactory, model: MockModel
) -> Iterator[JupyterServer]:
    """A server with a custom identity provider and a custom authorizer."""
    directory = tmp_path_factory.mktemp("team")
    audit = f"AUDIT = {str(directory / 'audit.jsonl')!r}\n"
    with JupyterServer(
        directory,
        model=mock_provider(model.url),
        config=audit + TEAM_CONFIG,
        options=["--LoopatExtension.ping_interval=1"],
    ) as running:
        yield running


@pytest.fixture
async def person(
    team_server: JupyterServer, recorder: Recorder
) -> AsyncIterator[Callable[[str], Caller]]:
    """Makes callers on the team server: ``person("alice")``."""
    async with contextlib.AsyncExitStack() as stack:

        def make(name: str) -> Caller:
            headers = {"X-User": name, "X-XSRFToken": "same"}
            caller = Caller(team_server, recorder, headers=headers, cookies={"_xsrf": "same"})
            stack.push_async_callback(caller.http.aclose)
            return caller

        yield make


@pytest.fixture
def somebody() -> str:
    """The name of a person who has never been here: owns no loop, no token."""
    return f"person-{secrets.token_hex(4)}"
