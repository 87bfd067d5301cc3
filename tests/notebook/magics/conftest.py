"""A server with the demo model, and notebooks in it whose kernel has the magics loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd
from tests.support.server import JupyterServer


@pytest.fixture(scope="package")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("magics"), model={"providers": {}}) as running:
        yield running


@pytest.fixture(scope="package")
def client(demo_server: JupyterServer) -> Iterator[Client]:
    with Client(demo_server.url, demo_server.token) as one:
        yield one


@pytest.fixture(scope="package")
def kernel(demo_server: JupyterServer) -> Iterator[FrontEnd]:
    """One kernel for all: a kernel takes longer to start than most of these tests."""
    with FrontEnd(demo_server, "notebook.ipynb") as one:
        yield one


@pytest.fixture
def notebook(kernel: FrontEnd) -> FrontEnd:
    """A notebook whose kernel has no state of the test before."""
    forget(kernel)
    return kernel


def forget(notebook: FrontEnd) -> None:
    """Make the kernel as good as new, to the magics."""
    ran = notebook.run(FORGET)
    assert ran.status == "ok", ran.outputs


FORGET = """
import os
for name in ("LOOPAT_URL", "LOOPAT_TOKEN"):
    os.environ.pop(name, None)
from loopat_jupyter.notebook.output import _cell_loops
_cell_loops._loops.clear()
%reload_ext loopat_jupyter
"""
