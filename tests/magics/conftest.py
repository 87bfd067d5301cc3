"""A server with the demo model, and notebooks in it whose kernel has the magics loaded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd
from tests.support.server import JupyterServer

_numbers = itertools.count()


@pytest.fixture(scope="package")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("magics"), model={"providers": {}}) as running:
        yield running


@pytest.fixture(scope="package")
def client(demo_server: JupyterServer) -> Iterator[Client]:
    with Client(demo_server.url, demo_server.token) as one:
        yield one


@pytest.fixture
def new_notebook(demo_server: JupyterServer) -> Iterator[Callable[[str], FrontEnd]]:
    """Opens notebooks by path, each with a new kernel."""
    opened: list[FrontEnd] = []

    def open_(path: str = "") -> FrontEnd:
        one = FrontEnd(demo_server, path or f"notebook-{next(_numbers)}.ipynb")
        opened.append(one)
        assert one.run("%load_ext loopat_jupyter").status == "ok"
        return one

    yield open_
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def notebook(demo_server: JupyterServer) -> Iterator[FrontEnd]:
    """One notebook for the tests of a module; each makes its own loops."""
    with FrontEnd(demo_server, f"notebook-{next(_numbers)}.ipynb") as one:
        assert one.run("%load_ext loopat_jupyter").status == "ok"
        yield one
