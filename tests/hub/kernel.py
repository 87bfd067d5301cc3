"""A kernel of a person's server, started and spoken to through the Hub's proxy."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.support.sse import WAIT


class Kernel:
    """One kernel; :meth:`run` gives what a cell printed."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self._socket = socket

    async def run(self, code: str) -> str:
        """Run a cell; its standard output. Raises ``AssertionError`` with the cell's traceback."""
        ident = uuid.uuid4().hex
        header = {"msg_id": ident, "msg_type": "execute_request", "username": "", "session": ident,
                  "date": "2026-01-01T00:00:00Z", "version": "5.3"}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": False,
                   "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}  # fmt: skip
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await self._socket.write_message(json.dumps({**message, "channel": "shell"}))
        printed: list[str] = []
        while True:
            answer = await self._next()
            if answer["parent_header"].get("msg_id") != ident:
                continue
            body = answer["content"]
            match answer["msg_type"]:
                case "stream":
                    printed.append(body["text"])
                case "error":
                    raise AssertionError("\n".join(body["traceback"]))
                case "status" if body["execution_state"] == "idle":
                    return "".join(printed)

    async def _next(self) -> dict[str, Any]:
        raw = await self._socket.read_message()
        assert isinstance(raw, str), f"the kernel's connection ended: {raw!r}"
        message: dict[str, Any] = json.loads(raw)
        return message


@contextlib.asynccontextmanager
async def kernel(server_url: str, token: str) -> AsyncIterator[Kernel]:
    """A new kernel of that server, ended with the block."""
    headers = {"Authorization": f"token {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=WAIT) as http:
        made = await http.post(f"{server_url}api/kernels", json={"name": "python3"})
        assert made.status_code == 201, made.text
        where = f"{server_url}api/kernels/{made.json()['id']}"
        request = HTTPRequest(
            f"{where}/channels".replace("http", "ws", 1), headers=headers, request_timeout=WAIT
        )
        socket = await websocket_connect(request)
        try:
            yield Kernel(socket)
        finally:
            socket.close()
            await http.delete(where)
