"""Handles of loops and of their choices, for asyncio callers."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal, Self

from .. import _requests
from .._address import ServerAddress
from .._choice import ChoiceView
from .._choice_policy import (
    Decision,
    PolicyName,
    answers_body,
    body_of,
    check_policy,
    permission_body,
)
from .._errors import NotFoundError
from .._events import Event, RequiresChoice, Snapshot
from .._models import Message, MessagePage, NetworkRequest, PermissionMode, Rule
from .._result import TurnResult
from .._resume import ResumingStream
from .files import AsyncLoopFiles
from .stream import AsyncEventStream
from .transport import AsyncTransport


class AsyncChoice(ChoiceView):
    """A point where the turn waits for a person. Resolving it twice is a ``NotFoundError``."""

    def __init__(self, carrier: AsyncTransport, loop_id: str, request: RequiresChoice) -> None:
        super().__init__(request)
        self._carrier = carrier
        self._loop_id = loop_id

    @property
    def loop_id(self) -> str:
        return self._loop_id

    @property
    def address(self) -> ServerAddress:
        """Where its loop's server is, and the token that lets in."""
        return self._carrier.address

    async def allow(self, *, remember: Literal["loop"] | None = None) -> None:
        """Let the tool run with the input that was shown; ``remember`` it for this loop."""
        await self.resolve(permission_body(True, remember))

    async def deny(self) -> None:
        """The agent is told that the user denied it, and goes on."""
        await self.resolve(permission_body(False))

    async def answer(self, answers: Mapping[str, str | list[str]] | str | list[str]) -> None:
        """Answer all questions: by id (or text), or one value where there is one question."""
        await self.resolve(answers_body(self.request, answers))

    async def resolve(self, body: Mapping[str, object]) -> None:
        """Send the contract's body as it is."""
        await self._carrier.request(_requests.resolve_choice(self._loop_id, self.id, body))
        self._carrier.answered.add(self.id)


AsyncOnChoice = PolicyName | Callable[[AsyncChoice], Awaitable[Decision | None] | Decision | None]
"""What happens when a turn asks a person: see :mod:`loopat_jupyter.client._choice_policy`."""


class AsyncLoop(AsyncLoopFiles):
    """One loop. Every method asks the server; ``info`` is what it said last."""

    @property
    def address(self) -> ServerAddress:
        """Where its server is, and the token that lets in."""
        return self._carrier.address

    # ------------------------------------------------------------- turns

    async def send(
        self,
        content: str,
        *,
        on_choice: AsyncOnChoice = "fail",
        permission_mode: PermissionMode | None = None,
        idempotency_key: str | None = None,
        sdk_messages: bool = False,
    ) -> AsyncEventStream:
        """Give the loop a message and return the events of its turn.

        When this returns, the message is on the server's disk. The stream resumes by itself
        after a dropped connection, without a gap or a double. ``on_choice`` decides what the
        caller does not (``await loop.choice(event).allow()``) before asking for the next event.

        Raises:
            InvalidRequestError: the message is refused (archived loop, too large, blank).
            ChoiceRequired: while iterating, by the policy ``"fail"``.
            StreamLost: while iterating, when the server stays away; the turn goes on there.
        """
        check_policy(on_choice)
        key = idempotency_key or uuid.uuid4().hex
        message = _requests.send_message(self.id, content, permission_mode, key, sdk_messages)
        state = ResumingStream(self._watch(sdk_messages), self._carrier.retry, message=message)
        events = AsyncEventStream(
            self._carrier, state, lambda request: self.decide(request, on_choice)
        )
        await events.connect()
        return events

    async def ask(
        self,
        content: str,
        *,
        on_choice: AsyncOnChoice = "fail",
        permission_mode: PermissionMode | None = None,
        idempotency_key: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        check: bool = True,
    ) -> TurnResult:
        """Give the loop a message, wait for its turn to end and return what it brought.

        Raises:
            TurnFailed: the turn ended with ``error`` (``TurnInterrupted``: was interrupted),
                unless ``check`` is false. The result so far is in the exception.
            ChoiceRequired: by the policy ``"fail"``.
        """
        result = TurnResult()
        options = {"permission_mode": permission_mode, "idempotency_key": idempotency_key}
        events = await self.send(content, on_choice=on_choice, **options)  # type: ignore[arg-type]
        async with events:
            async for event in events:
                result.add(event)
                if on_event is not None:
                    on_event(event)
        return result.raise_for_status() if check else result

    async def events(
        self, after_seq: int | None = None, *, sdk_messages: bool = False
    ) -> AsyncEventStream:
        """All events across turns, until the stream is closed.

        ``after_seq=0`` replays the whole history first, ``after_seq=N`` what came after N.
        Without it the stream begins now: with a ``Snapshot`` when a turn is running, again
        after a reconnect that came before any stored event was seen.
        """
        state = ResumingStream(self._watch(sdk_messages), self._carrier.retry, cursor=after_seq)
        events = AsyncEventStream(self._carrier, state)
        await events.connect()
        return events

    async def interrupt(self) -> None:
        """End the running turn; queued ones then run. Nothing happens to an idle loop."""
        await self._carrier.request(_requests.interrupt(self.id))

    def _watch(self, sdk_messages: bool) -> Callable[[int | None], _requests.ApiRequest[None]]:
        return lambda cursor: _requests.watch(self.id, cursor, sdk_messages)

    # ------------------------------------------------------------- choices

    def choice(self, request: RequiresChoice) -> AsyncChoice:
        """The handle that answers ``request``, an event of this loop."""
        return AsyncChoice(self._carrier, self.id, request)

    async def pending_choice(self) -> AsyncChoice | None:
        """The choice the running turn waits for, if it waits for one."""
        if not await self._pending_id():
            return None
        async with await self.events() as events:
            first = await anext(events, None)
        if isinstance(first, Snapshot) and first.choice is not None:
            return self.choice(first.choice)
        return None

    async def _pending_id(self) -> str | None:
        current = (await self.refresh()).info.current_turn
        return None if current is None else current.pending_choice_id

    async def decide(self, request: RequiresChoice, policy: AsyncOnChoice) -> None:
        """Carry the policy out, unless the choice is resolved already, here or elsewhere."""
        if request.choice_id in self._carrier.answered or policy == "wait":
            return
        if await self._pending_id() != request.choice_id:
            return
        choice = self.choice(request)
        decision = policy(choice) if callable(policy) else policy
        if isinstance(decision, Awaitable):
            decision = await decision
        if choice.id in self._carrier.answered:
            return
        body = body_of(request, decision)
        try:
            if body is not None:
                await choice.resolve(body)
        except NotFoundError as error:
            if error.code != "choice_not_found":  # somebody else was quicker: fine
                raise

    async def rules(self) -> list[Rule]:
        """Permissions remembered for this loop."""
        return await self._carrier.request(_requests.list_rules(self.id))

    async def withdraw_rule(self, rule_id: str) -> None:
        """Ask again for what the rule had allowed."""
        await self._carrier.request(_requests.withdraw_rule(self.id, rule_id))

    # ------------------------------------------------------------- the loop itself

    async def history(self, *, page_size: int = 100) -> AsyncIterator[Message]:
        """The conversation so far, oldest first, through all pages."""
        after: str | None = None
        while True:
            page = await self._carrier.request(_requests.history(self.id, page_size, after))
            for message in page.data:
                yield message
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    async def history_page(
        self, *, limit: int = 20, after: str | None = None, newest_first: bool = False
    ) -> MessagePage:
        """One page of the conversation, as the server cut it; ``after`` is a page's ``last_id``."""
        return await self._carrier.request(_requests.history(self.id, limit, after, newest_first))

    async def network(self, *, page_size: int = 100) -> AsyncIterator[NetworkRequest]:
        """What the loop's sandbox asked of the network, newest first, through all pages."""
        after: str | None = None
        while True:
            page = await self._carrier.request(_requests.network(self.id, page_size, after))
            for request in page.data:
                yield request
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    async def refresh(self) -> Self:
        """Ask the server for the loop's present state."""
        self.info = await self._carrier.request(_requests.get_loop(self.id))
        return self

    async def archive(self) -> None:
        """Put the loop away: its turns end, its record stays. Again: nothing happens."""
        await self._carrier.request(_requests.archive_loop(self.id))
