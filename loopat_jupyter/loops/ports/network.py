"""The network port: what a sandbox may reach through its egress proxy, and who decides that.

A sandbox has no network of its own. Its egress proxy implements :class:`Network`. It passes on
requests to the model for which an engine has opened the gateway, and connections to destinations
that the loop's profiles, or a person, allow. :mod:`.destinations` says what a destination is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ..destinations import Destination, Pattern

NETWORK = "Network"
"""What a permission to reach a destination is called; its input is ``host`` and ``port``."""

Headers = Sequence[tuple[str, str]]
RequestOutcome = Literal["allowed", "refused", "failed"]


class ModelRequestRefused(Exception):
    """The gateway does not pass this request on; the message says why, for the agent."""


class ModelResponse(Protocol):
    """A provider's answer; must be closed."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    def body(self) -> AsyncIterator[bytes]:
        """The bytes as they come, unchanged. Raises ``OSError`` when it breaks off."""

    async def close(self) -> None: ...


class ModelUpstream(Protocol):
    """A model provider as the gateway of a sandbox reaches it. The real key stays in here."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    async def send_request(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> ModelResponse:
        """Pass a request on: ``target`` is path and query below the base URL.

        Raises:
            ModelRequestRefused: nothing was sent: this path is not the agent's to ask.
            OSError: the provider could not be reached; the message holds no secret.
        """


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """The model gateway as it is seen inside the sandbox.

    ``url`` is a base URL for the provider's SDK, ``key`` takes the place of the API key and is
    worthless elsewhere. Both stay the same for the sandbox's life.
    """

    url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Egress:
    """What one loop may reach, from its profiles. Default: nothing."""

    allowed: tuple[Pattern, ...] = ()


ApprovalCallback = Callable[[Destination], Awaitable[str | None]]
"""Puts a destination to a person: ``None`` where it may be reached now, else why it may not."""


class Network(Protocol):
    """The egress proxy of one sandbox, as engines see it."""

    async def open_model_gateway(self, upstream: ModelUpstream) -> GatewayAccess:
        """Let the sandbox use this model until :meth:`close_model_gateway`; replaces an earlier
        one.

        Raises ``SandboxLost`` when the sandbox has ended.
        """

    def close_model_gateway(self) -> None:
        """Nothing inside can use the provider any more; requests under way are cut off."""

    def set_grants(self, destinations: Iterable[Destination]) -> None:
        """What a person allowed, besides the profiles; replaces what was permitted before."""

    def set_policy(self, egress: Egress) -> None:
        """What the loop's profiles allow now."""

    def drain_denied(self) -> Sequence[Destination]:
        """What was refused since the last call and could be permitted, oldest first."""

    def set_approval_callback(self, asker: ApprovalCallback | None) -> None:
        """From here on hold a request that would be refused until ``asker`` has answered, though
        not for long; ``None``: refuse it at once. For engines that do not hold their tools."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of a loop's network audit. Sizes are bytes of payload, both ways.

    ``kind``: ``connect`` (a tunnel), ``http`` (a plain request), or ``model`` (the gateway).
    """

    loop_id: str
    started_at: str
    kind: Literal["connect", "http", "model"]
    host: str
    port: int
    verdict: RequestOutcome
    reason: str = ""
    bytes_out: int = 0
    bytes_in: int = 0
