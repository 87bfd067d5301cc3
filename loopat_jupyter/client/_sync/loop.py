"""Handles of loops and of their choices, for synchronous callers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
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
from .files import LoopFiles
from .stream import EventStream
from .transport import Transport


class Choice(ChoiceView):
    """A point where the turn waits for a person. Resolving it twice is a ``NotFoundError``."""

    def __init__(self, carrier: Transport, loop_id: str, request: RequiresChoice) -> None:
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

    def allow(self, *, remember: Literal["loop"] | None = None) -> None:
        """Let the tool run with the input that was shown; ``remember`` it for this loop."""
        self.resolve(permission_body(True, remember))

    def deny(self) -> None:
        """The agent is told that the user denied it, and goes on."""
        self.resolve(permission_body(False))

    def answer(self, answers: Mapping[str, str | list[str]] | str | list[str]) -> None:
        """Answer all questions: by id (or text), or one value where there is one question."""
        self.resolve(answers_body(self.request, answers))

    def resolve(self, body: Mapping[str, object]) -> None:
        """Send the contract's body as it is."""
        self._carrier.request(_requests.resolve_choice(self._loop_id, self.id, body))
        self._carrier.answered.add(self.id)


OnChoice = PolicyName | Callable[[Choice], Decision | None]
"""What happens when a turn asks a person: see :mod:`loopat_jupyter.client._choice_policy`."""


class Loop(LoopFiles):
    """One loop. Every method asks the server; ``info`` is what it said last."""

    @property
    def address(self) -> ServerAddress:
        """Where its server is, and the token that lets in."""
        return self._carrier.address

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
        """Give the loop a message and return the events of its turn.

        When this returns, the message is on the server's disk. The stream resumes by itself
        after a dropped connection, without a gap or a double. ``on_choice`` decides what the
        caller does not (``loop.choice(event).allow()``) before asking for the next event.

        Raises:
            InvalidRequestError: the message is refused (archived loop, too large, blank).
            ChoiceRequired: while iterating, by the policy ``"fail"``.
            StreamLost: while iterating, when the server stays away; the turn goes on there.
        """
        check_policy(on_choice)
        key = idempotency_key or uuid.uuid4().hex
        message = _requests.send_message(self.id, content, permission_mode, key, sdk_messages)
        state = ResumingStream(self._watch(sdk_messages), self._carrier.retry, message=message)
        return EventStream(self._carrier, state, lambda request: self.decide(request, on_choice))

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
        """Give the loop a message, wait for its turn to end and return what it brought.

        Raises:
            TurnFailed: the turn ended with ``error`` (``TurnInterrupted``: was interrupted),
                unless ``check`` is false. The result so far is in the exception.
            ChoiceRequired: by the policy ``"fail"``.
        """
        result = TurnResult()
        options = {"permission_mode": permission_mode, "idempotency_key": idempotency_key}
        with self.send(content, on_choice=on_choice, **options) as events:  # type: ignore[arg-type]
            for event in events:
                result.add(event)
                if on_event is not None:
                    on_event(event)
        return result.raise_for_status() if check else result

    def events(self, after_seq: int | None = None, *, sdk_messages: bool = False) -> EventStream:
        """All events across turns, until the stream is closed.

        ``after_seq=0`` replays the whole history first, ``after_seq=N`` what came after N.
        Without it the stream begins now: with a ``Snapshot`` when a turn is running, again
        after a reconnect that came before any stored event was seen.
        """
        state = ResumingStream(self._watch(sdk_messages), self._carrier.retry, cursor=after_seq)
        return EventStream(self._carrier, state)

    def interrupt(self) -> None:
        """End the running turn; queued ones then run. Nothing happens to an idle loop."""
        self._carrier.request(_requests.interrupt(self.id))

    def _watch(self, sdk_messages: bool) -> Callable[[int | None], _requests.ApiRequest[None]]:
        return lambda cursor: _requests.watch(self.id, cursor, sdk_messages)

    # ------------------------------------------------------------- choices

    def choice(self, request: RequiresChoice) -> Choice:
        """The handle that answers ``request``, an event of this loop."""
        return Choice(self._carrier, self.id, request)

    def pending_choice(self) -> Choice | None:
        """The choice the running turn waits for, if it waits for one."""
        if not self._pending_id():
            return None
        with self.events() as events:
            first = next(events, None)
        if isinstance(first, Snapshot) and first.choice is not None:
            return self.choice(first.choice)
        return None

    def _pending_id(self) -> str | None:
        current = self.refresh().info.current_turn
        return None if current is None else current.pending_choice_id

    def decide(self, request: RequiresChoice, policy: OnChoice) -> None:
        """Carry the policy out, unless the choice is resolved already, here or elsewhere."""
        if request.choice_id in self._carrier.answered or policy == "wait":
            return
        if self._pending_id() != request.choice_id:
            return
        choice = self.choice(request)
        decision = policy(choice) if callable(policy) else policy
        if choice.id in self._carrier.answered:
            return
        body = body_of(request, decision)
        try:
            if body is not None:
                choice.resolve(body)
        except NotFoundError as error:
            if error.code != "choice_not_found":  # somebody else was quicker: fine
                raise

    def rules(self) -> list[Rule]:
        """Permissions remembered for this loop."""
        return self._carrier.request(_requests.list_rules(self.id))

    def withdraw_rule(self, rule_id: str) -> None:
        """Ask again for what the rule had allowed."""
        self._carrier.request(_requests.withdraw_rule(self.id, rule_id))

    # ------------------------------------------------------------- the loop itself

    def history(self, *, page_size: int = 100) -> Iterator[Message]:
        """The conversation so far, oldest first, through all pages."""
        after: str | None = None
        while True:
            page = self._carrier.request(_requests.history(self.id, page_size, after))
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def history_page(
        self, *, limit: int = 20, after: str | None = None, newest_first: bool = False
    ) -> MessagePage:
        """One page of the conversation, as the server cut it; ``after`` is a page's ``last_id``."""
        return self._carrier.request(_requests.history(self.id, limit, after, newest_first))

    def network(self, *, page_size: int = 100) -> Iterator[NetworkRequest]:
        """What the loop's sandbox asked of the network, newest first, through all pages."""
        after: str | None = None
        while True:
            page = self._carrier.request(_requests.network(self.id, page_size, after))
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id

    def refresh(self) -> Self:
        """Ask the server for the loop's present state."""
        self.info = self._carrier.request(_requests.get_loop(self.id))
        return self

    def archive(self) -> None:
        """Put the loop away: its turns end, its record stays. Again: nothing happens."""
        self._carrier.request(_requests.archive_loop(self.id))
