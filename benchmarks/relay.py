"""The baseline, a bare Tornado relay from model to watchers: ``python -m benchmarks.relay PORT``.

It does what no server can do without: take the model's stream and pass it on to whoever listens.
No store, no turn, no encoding, no credentials. What loopat adds is measured against it.
It prints its port and runs until its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

watchers: dict[str, set[Watch]] = {}
running: set[asyncio.Task[None]] = set()


class Watch(RequestHandler):
    """``GET /events/N``: whatever the model says in stream N, until the client leaves."""

    async def get(self, name: str) -> None:
        self.set_header("Content-Type", "text/event-stream")
        connection: Any = self.request.connection
        connection.stream.set_nodelay(True)
        await self.flush()
        self._gone = asyncio.Event()
        watchers.setdefault(name, set()).add(self)
        await self._gone.wait()

    def on_connection_close(self) -> None:
        self._gone.set()
        for listeners in watchers.values():
            listeners.discard(self)

    def push(self, data: bytes) -> None:
        self.write(data)
        self.flush()


class Start(RequestHandler):
    """``POST /start/N``: ask the model with the body's ``content`` and relay its answer."""

    async def post(self, name: str) -> None:
        content = json.loads(self.request.body)["content"]
        task = asyncio.get_running_loop().create_task(relay(name, content))
        running.add(task)
        task.add_done_callback(running.discard)


async def relay(name: str, content: str) -> None:
    def pass_on(data: bytes) -> None:
        for watch in tuple(watchers.get(name, ())):
            watch.push(data)

    request = HTTPRequest(
        f"http://127.0.0.1:{sys.argv[1]}/v1/chat/completions",
        method="POST",
        body=json.dumps({"messages": [{"role": "user", "content": content}]}),
        streaming_callback=pass_on,
        request_timeout=0,
    )
    await AsyncHTTPClient().fetch(request)


async def serve() -> None:
    AsyncHTTPClient.configure(None, max_clients=2000)
    server = HTTPServer(Application([(r"/events/(\w+)", Watch), (r"/start/(\w+)", Start)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
