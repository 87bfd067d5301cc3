"""The calls of a widget's browser half as messages, carried out with the client.

To the kernel    ``{op, id, args}`` with an ``op`` of :data:`CALLS` (a file's bytes in a buffer);
                 ``{op: "unwatch", watch}``
To the browser   ``{op: "answer", id, result | error}``; ``{op: "events", watch, events}``;
                 ``{op: "lost", watch, error}``

An ``error`` is ``{code, message, status}``, an event ``{name, data, seq}``; results have the shapes
of the Loop API. The client's stream resumes by itself, so ``lost`` means that it gave up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from loopat_jupyter.client import (
    APIError,
    AsyncClient,
    AsyncLoop,
    ConnectionFailed,
    Event,
    LoopatError,
    LoopInfo,
    MessagePage,
    RequiresChoice,
    UnknownEvent,
)

from ._batches import Batches

Args = Mapping[str, Any]
Send = Callable[[dict[str, Any]], object]


class WidgetRpc:
    """The calls of one widget, in one event loop. ``tasks`` owns their tasks."""

    def __init__(
        self, client: AsyncClient, loop_id: str, send: Send, tasks: asyncio.TaskGroup
    ) -> None:
        self._client = client
        self._loop_id = loop_id
        self._send = send
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._watches: dict[Any, asyncio.Task[None]] = {}
        self._handle: AsyncLoop | None = None

    def handle(self, message: Mapping[str, Any]) -> None:
        """Start the call in ``message``."""
        if message.get("op") == "unwatch":
            watch = self._watches.pop(message.get("watch"), None)
            if watch is not None:
                watch.cancel()
            return
        self._start(self._call(message))

    def close(self) -> None:
        """Cancel the running calls; the task group waits for them."""
        for task in self._running:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _call(self, message: Mapping[str, Any]) -> None:
        response: dict[str, Any] = {"op": "answer", "id": message.get("id")}
        try:
            call = CALLS[str(message.get("op"))]
            args = {**(message.get("args") or {}), "buffers": message.get("buffers") or []}
            response["result"] = await call(self, args)
        except (LoopatError, ValueError, TypeError, KeyError) as error:
            response["error"] = error_json(error)
        self._send(response)

    async def _loop(self) -> AsyncLoop:
        if self._handle is None:
            self._handle = await self._client.loops.get(self._loop_id)
        return self._handle

    # ------------------------------------------------------------------ the calls

    async def loop(self, args: Args) -> dict[str, Any]:
        """The loop, with its runtime state."""
        loop = await self._loop()
        return model_json((await loop.refresh()).info)

    async def messages(self, args: Args) -> dict[str, Any]:
        """One page of the conversation: ``limit``, ``after``, ``order``."""
        page = await (await self._loop()).history_page(
            limit=int(args.get("limit") or 20),
            after=args.get("after"),
            newest_first=args.get("order") == "desc",
        )
        return model_json(page)

    async def send(self, args: Args) -> dict[str, Any] | None:
        """Send a message: ``content``, ``key``, ``mode``. Returns the turn's first event."""
        stream = await (await self._loop()).send(
            args["content"],
            on_choice="wait",
            permission_mode=args.get("mode"),
            idempotency_key=args["key"],
        )
        async with stream:
            first = await anext(stream, None)
        return None if first is None else event_json(first)

    async def choice(self, args: Args) -> None:
        """Resolve a choice: ``choice_id``, and the ``body`` of the API's request."""
        request = RequiresChoice(choice_id=args["choice_id"], kind="permission", payload={})
        await (await self._loop()).choice(request).resolve(args["body"])

    async def put(self, args: Args) -> None:
        """Write a file into the workdir: ``path``, and its bytes in the message's buffer."""
        (data,) = args["buffers"]
        await (await self._loop()).put(data, args["path"])

    async def interrupt(self, args: Args) -> None:
        """Interrupt the running turn."""
        await (await self._loop()).interrupt()

    async def watch(self, args: Args) -> None:
        """Stream events under the name ``watch``, from ``after`` on (``None``: from now)."""
        loop = await self._loop()
        self._watches[args["watch"]] = self._start(
            self._follow(loop, args["watch"], args.get("after"))
        )

    async def _follow(self, loop: AsyncLoop, name: Any, after: int | None) -> None:
        def send_batch(events: list[dict[str, Any]]) -> None:
            self._send({"op": "events", "watch": name, "events": events})

        try:
            async with await loop.events(after) as stream, Batches(send_batch) as batches:
                async for event in stream:
                    await batches.add(event_json(event))
        except LoopatError as error:
            self._send({"op": "lost", "watch": name, "error": error_json(error)})


CALLS: dict[str, Callable[[WidgetRpc, Args], Awaitable[Any]]] = {
    "loop": WidgetRpc.loop,
    "messages": WidgetRpc.messages,
    "send": WidgetRpc.send,
    "choice": WidgetRpc.choice,
    "put": WidgetRpc.put,
    "interrupt": WidgetRpc.interrupt,
    "watch": WidgetRpc.watch,
}


def event_json(event: Event) -> dict[str, Any]:
    """An event in the form in which the browser reads it from the server's stream."""
    name = event.event if isinstance(event, UnknownEvent) else event.name
    return {"name": name, "data": dict(event.data), "seq": event.seq}


def model_json(value: LoopInfo | MessagePage) -> dict[str, Any]:
    """A model of the client as the JSON that it was parsed from."""
    return {name: _json(item) for name, item in asdict(value).items()}


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, list | tuple) else value


def error_json(error: Exception) -> dict[str, Any]:
    """An error for the browser, without traceback and address."""
    if isinstance(error, APIError):
        return {"code": error.code, "message": error.message, "status": error.status}
    if isinstance(error, ConnectionFailed):
        message = "The kernel cannot reach the loop's server."
        return {"code": "unreachable", "message": message, "status": 0}
    if isinstance(error, LoopatError):
        return {"code": error.code, "message": error.message, "status": 0}
    return {"code": "invalid_parameter", "message": str(error), "status": 400}
