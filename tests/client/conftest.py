"""A real server with the offline demo model, and a proxy that breaks connections to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loopat_jupyter.client import Client, RetryPolicy
from tests.support.server import JupyterServer

from .breaking_proxy import BreakingProxy


@pytest.fixture(scope="package")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    options = ["--LoopatExtension.ping_interval=1", "--LoopatExtension.token_session=True"]
    with JupyterServer(tmp_path_factory.mktemp("client"), options=options) as running:
        yield running


@pytest.fixture
def client(demo_server: JupyterServer) -> Iterator[Client]:
    with Client(demo_server.url, demo_server.token) as one:
        yield one


@pytest.fixture
def proxy(demo_server: JupyterServer) -> Iterator[BreakingProxy]:
    with BreakingProxy(demo_server.port) as running:
        yield running


@pytest.fixture
def proxied(demo_server: JupyterServer, proxy: BreakingProxy) -> Iterator[Client]:
    url = demo_server.url.replace(str(demo_server.port), str(proxy.port))
    with Client(url, demo_server.token, retry=RetryPolicy(backoff=0.01)) as one:
        yield one
