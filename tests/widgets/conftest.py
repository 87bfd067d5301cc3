"""A real server for the widgets, and widgets whose messages to the browser are caught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loopat_jupyter.client import Client
from loopat_jupyter.notebook.widgets._kernel_bridge import KernelBridge
from tests.support.mock_model import MockModel
from tests.support.server import JupyterServer, mock_provider

PATIENCE = 30.0


@pytest.fixture(scope="package")
def widget_server(
    tmp_path_factory: pytest.TempPathFactory, model: MockModel
) -> Iterator[JupyterServer]:
    with JupyterServer(
        tmp_path_factory.mktemp("widgets"),
        model=mock_provider(model.url),
        options=["--LoopatExtension.ping_interval=1"],
    ) as running:
        yield running


@pytest.fixture
def client(widget_server: JupyterServer) -> Iterator[Client]:
    with Client(widget_server.url, widget_server.token) as one:
        yield one


class Browser:
    """The other side of a bridge: sends it calls, and keeps what comes."""

    def __init__(self) -> None:
        self.came: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._next = 0
        self.bridge: KernelBridge | None = None

    def receive(self, message: dict[str, Any]) -> None:
        with self._news:
            self.came.append(message)
            self._news.notify_all()

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is ``wanted``, when it is there."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.came if wanted(one)), None)

        with self._news:
            message = self._news.wait_for(found, PATIENCE)
        assert message is not None, self.came
        return message

    def call(self, op: str, **args: Any) -> Any:
        """The result of a call, or its error as ``{"error": …}``."""
        assert self.bridge is not None
        self._next += 1
        number = self._next
        self.bridge.handle_message({"op": op, "id": number, "args": args})
        answer = self.until(lambda one: one["op"] == "answer" and one["id"] == number)
        return answer["result"] if "result" in answer else {"error": answer["error"]}

    def events(self, watch: str) -> list[dict[str, Any]]:
        """All events that came for a watch, in order."""
        with self._news:
            batches = [one for one in self.came if one["op"] == "events" and one["watch"] == watch]
        return [event for batch in batches for event in batch["events"]]

    def until_event(self, watch: str, name: str) -> dict[str, Any]:
        """The first event of that name, when it is there."""

        def holds(message: dict[str, Any]) -> bool:
            return (
                message["op"] == "events"
                and message["watch"] == watch
                and any(event["name"] == name for event in message["events"])
            )

        batch = self.until(holds)
        return next(event for event in batch["events"] if event["name"] == name)


@pytest.fixture
def browser_of(client: Client) -> Iterator[Callable[[str], Browser]]:
    """Makes the browser side of a loop's bridge."""
    made: list[Browser] = []

    def make(loop_id: str) -> Browser:
        one = Browser()
        one.bridge = KernelBridge(loop_id, client.address, one.receive)
        made.append(one)
        return one

    yield make
    for one in made:
        assert one.bridge is not None
        one.bridge.close()
