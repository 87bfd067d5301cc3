# Generated from ../_async/loop.py by `python tools/generate_sync_client.py`: edit that file.
"""Handles of a loop and of a choice."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self

from .. import _requests
from .._address import ServerAddress
from .._choice_policy import (
    PolicyName,
    answers_body,
    check_policy,
    permission_body,
    resolution_body,
)
from .._errors import NotFoundError
from .._events import Event, Question, RequiresChoice, Snapshot
from .._models import Message, MessagePage, NetworkRequest, PermissionMode, Rule
from .._result import TurnResult
from .._resume import ResumingStream
from .concurrency import PolicyResult, resolve_decision
from .files import LoopFiles
from .stream import EventStream
from .transport import Transport


class Choice:
    """A choice that a turn waits for: a permission to give, or questions to answer.

    ``command`` and ``input`` are exactly what will run. A choice can be resolved once; resolving
    it again raises ``NotFoundError``.
    """

    def __init__(self, transport: Transport, loop_id: str, request: RequiresChoice) -> None:
        self._transport = transport
        self._loop_id = loop_id
        self.request = request

    @property
    def id(self) -> str:
        return self.request.choice_id

    @property
    def kind(self) -> str:
        """``permission`` or ``question``."""
        return self.request.kind

    @property
    def tool(self) -> str:
        return self.request.tool

    @property
    def title(self) -> str:
        return self.request.title

    @property
    def input(self) -> Any:
        return self.request.input

    @property
    def command(self) -> str | None:
        """The shell command, where the tool runs one."""
        return self.request.command

    @property
    def reason(self) -> str | None:
        return self.request.reason

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.request.questions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.kind} {self.title!r}>"

    @property
    def loop_id(self) -> str:
        return self._loop_id

    @property
    def address(self) -> ServerAddress:
        """The server's address, with the token that is sent to it."""
        return self._transport.address

    def allow(self, *, remember: Literal["loop"] | None = None) -> None:
        """Let the tool run with the input that was shown; ``remember`` it for this loop."""
        self.resolve(permission_body(True, remember))

    def deny(self) -> None:
        """Refuse the permission. The agent reads that the user denied it, and continues."""
        self.resolve(permission_body(False))

    def answer(self, answers: Mapping[str, str | list[str]] | str | list[str]) -> None:
        """Answer all questions: by id (or text), or one value where there is one question."""
        self.resolve(answers_body(self.request, answers))

    def resolve(self, body: Mapping[str, object]) -> None:
        """Send ``body``, the request body of the API, unchanged."""
        self._transport.request(_requests.resolve_choice(self._loop_id, self.id, body))
        self._transport.resolved_choices.add(self.id)


OnChoice = PolicyName | Callable[[Choice], PolicyResult]
"""What happens when a turn waits for a person: see ``loopat_jupyter.client._choice_policy``."""


class Loop(LoopFiles):
    """One loop. Every method sends a request; ``info`` is the state that was received last."""

    @property
    def address(self) -> ServerAddress:
        """The server's address, with the token that is sent to it."""
        return self._transport.address

    # ------------------------------------------------------------- turns

    def send(
        self,
        content: str,
        *,
        on_choice: OnChoice = "fail",
        permission_mode: PermissionMode | None = None,
        idempotency_key: str | None = None,
        sdk_messages: bool = False,
    ) -> EventStream:
        """Send a message to the loop and return the events of its turn.

        When this returns, the message is on the server's disk. After a dropped connection the
        stream resumes, without a missing or repeated event. ``on_choice`` decides each choice
        that the caller did not resolve (``loop.choice(event).allow()``) before it requests
        the next event.

        Raises:
            InvalidRequestError: the message is refused (archived loop, too large, blank).
            ChoiceRequired: while iterating, by the policy ``"fail"``.
            StreamLost: while iterating, when the server stays unreachable; the turn continues
                there.
        """
        check_policy(on_choice)
        key = idempotency_key or uuid.uuid4().hex
        message = _requests.send_message(self.id, content, permission_mode, key, sdk_messages)
        state = ResumingStream(
            self._events_request(sdk_messages), self._transport.retry, message=message
        )
        events = EventStream(
            self._transport, state, lambda request: self.decide(request, on_choice)
        )
        events.connect()
        return events

    def ask(
        self,
        content: str,
        *,
        on_choice: OnChoice = "fail",
        permission_mode: PermissionMode | None = None,
        idempotency_key: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        check: bool = True,
    ) -> TurnResult:
        """Send a message to the loop, wait until its turn ends, and return the turn's result.

        Raises:
            TurnFailed: the turn ended with ``error`` (``TurnInterrupted``: was interrupted),
                unless ``check`` is false. The exception has the result up to then.
            ChoiceRequired: by the policy ``"fail"``.
        """
        result = TurnResult()
        options = {"permission_mode": permission_mode, "idempotency_key": idempotency_key}
        events = self.send(content, on_choice=on_choice, **options)  # type: ignore[arg-type]
        with events:
            for event in events:
                result.add(event)
                if on_event is not None:
                    on_event(event)
        return result.raise_for_status() if check else result

    def events(self, after_seq: int | None = None, *, sdk_messages: bool = False) -> EventStream:
        """All events across turns, until the stream is closed.

        ``after_seq=0`` replays the whole history first, ``after_seq=N`` the events after N.
        Without it the stream begins now: with a ``Snapshot`` when a turn is running, and another
        one after a reconnect if no stored event was received before.
        """
        state = ResumingStream(
            self._events_request(sdk_messages), self._transport.retry, cursor=after_seq
        )
        events = EventStream(self._transport, state)
        events.connect()
        return events

    def interrupt(self) -> None:
        """End the running turn; queued ones then run. Nothing happens to an idle loop."""
        self._transport.request(_requests.interrupt_turn(self.id))

    def _events_request(
        self, sdk_messages: bool
    ) -> Callable[[int | None], _requests.ApiRequest[None]]:
        return lambda cursor: _requests.stream_events(self.id, cursor, sdk_messages)

    # ------------------------------------------------------------- choices

    def choice(self, request: RequiresChoice) -> Choice:
        """The handle that resolves ``request``, an event of this loop."""
        return Choice(self._transport, self.id, request)

    def pending_choice(self) -> Choice | None:
        """The choice the running turn waits for, if it waits for one."""
        if not self._pending_choice_id():
            return None
        with self.events() as events:
            first = next(events, None)
        if isinstance(first, Snapshot) and first.choice is not None:
            return self.choice(first.choice)
        return None

    def _pending_choice_id(self) -> str | None:
        self.refresh()
        current = self.info.current_turn
        return None if current is None else current.pending_choice_id

    def decide(self, request: RequiresChoice, policy: OnChoice) -> None:
        """Apply the policy, unless the choice is resolved already, by this client or another."""
        if request.choice_id in self._transport.resolved_choices or policy == "wait":
            return
        if self._pending_choice_id() != request.choice_id:
            return
        choice = self.choice(request)
        decision = resolve_decision(policy(choice) if callable(policy) else policy)
        if choice.id in self._transport.resolved_choices:
            return
        body = resolution_body(request, decision)
        try:
            if body is not None:
                choice.resolve(body)
        except NotFoundError as error:
            if error.code != "choice_not_found":  # another client may have resolved it first
                raise

    def rules(self) -> list[Rule]:
        """The permissions that are remembered for this loop."""
        return self._transport.request(_requests.list_rules(self.id))

    def withdraw_rule(self, rule_id: str) -> None:
        """Delete a remembered permission; the next such call requires a choice again."""
        self._transport.request(_requests.delete_rule(self.id, rule_id))

    # ------------------------------------------------------------- the loop itself

    def history(self, *, page_size: int = 100) -> Iterator[Message]:
        """The conversation so far, oldest first, through all pages."""
        after: str | None = None
        while True:
            page = self._transport.request(_requests.list_messages(self.id, page_size, after))
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def history_page(
        self, *, limit: int = 20, after: str | None = None, newest_first: bool = False
    ) -> MessagePage:
        """One page of the conversation; ``after`` is the ``last_id`` of the page before it."""
        request = _requests.list_messages(self.id, limit, after, newest_first)
        return self._transport.request(request)

    def network(self, *, page_size: int = 100) -> Iterator[NetworkRequest]:
        """The network requests of the loop's sandbox, newest first, through all pages."""
        after: str | None = None
        while True:
            page = self._transport.request(
                _requests.list_network_requests(self.id, page_size, after)
            )
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def refresh(self) -> Self:
        """Request the loop's current state into ``info``."""
        self.info = self._transport.request(_requests.get_loop(self.id))
        return self

    def archive(self) -> None:
        """Archive the loop: its turns end, its record stays. Archiving again changes nothing."""
        self._transport.request(_requests.archive_loop(self.id))
