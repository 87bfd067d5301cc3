"""Lending a configured model to a sandbox: the real key is added here, outside, and stays here.

An agent's own program inside may ask only what such programs ask of a model: messages and what
belongs to them, below the provider's base URL, with the methods and parameters that these have,
and of models that the administrator has enabled. Headers pass by an allow-list. The key never
comes back: where an answer repeats it, it is blotted out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from urllib.parse import quote, urlsplit

from ...context.config_file import NO_KEY, SelectedModel
from ...loops.errors import TurnFailure
from ...loops.ports.network import Headers, ModelRequestRefused, ModelResponse
from ..models.http import base_url, tls_context
from .http_pool import ConnectionPool, HttpRequest, HttpResponse
from .model_field import AmbiguousModel, ModelFieldParser
from .proxy_tunnel import UpstreamAddress

PATHS: dict[str, dict[str, str]] = {
    "anthropic": {"/v1/messages": "POST", "/v1/messages/count_tokens": "POST", "/v1/models": "GET"},
    "openai": {"/chat/completions": "POST", "/responses": "POST", "/models": "GET"},
}
"""What may be asked, and how."""
BODY_LIMIT = 32 * 1024 * 1024
SLICE = 8 * 1024
MAX_CONCURRENT = 0.002
"""A body is read in slices of so many bytes; after so many seconds of it others have their turn."""

NOT_OFFERED = "Of the model provider only these can be asked from inside: {paths}."
NOT_PLAIN = "This query, or a part of it, is none that belongs to the request."
TOO_LARGE = "A request to the model may have 32 MiB."
ENCODED = "A request to the model must not be compressed: which model it names is looked at."
UNCLEAR = "Which model the request names cannot be said with certainty: {why}."
NOT_ENABLED = "The model {name!r} is not enabled in config.json. Enabled are: {enabled}."
COMPRESSED = "its answer is compressed, though that was not asked for"
NO_PROVIDER = (
    "The demo model lives in the server and cannot be lent to an agent in the sandbox. Describe a "
    'provider in config.json, or set LoopatExtension.engine to "builtin".'
)

_QUERY = re.compile(r"((beta|limit|after_id|before_id|after|order)=[A-Za-z0-9_.:-]*(&|$))*")
_PASSED = frozenset(
    {
        "accept", "content-length", "content-type", "originator", "session_id", "user-agent",
        "x-app",
    }
)  # fmt: skip
_PASSED_FAMILIES = ("anthropic-beta", "anthropic-version", "openai-beta", "x-claude-code-",
                    "x-stainless-", "anthropic-dangerous-direct-browser-access")  # fmt: skip
_NOT_RETURNED = frozenset({"alt-svc", "set-cookie", "strict-transport-security"})


class ProviderUpstream:
    """Implements :class:`~loopat_jupyter.loops.ports.network.ModelUpstream` for one choice."""

    def __init__(self, choice: SelectedModel, base_url: str, carrier: ConnectionPool) -> None:
        url = urlsplit(base_url)
        tls = url.scheme == "https"
        host = (url.hostname or "").encode("idna").decode()
        self._address = UpstreamAddress(tls, host, url.port or (443 if tls else 80))
        self._base = quote(url.path, safe="/%-._~!$&'()*+,;=:@")
        self._paths = PATHS[choice.api]
        self._models = choice.models
        self._key = choice.api_key
        self._credentials = _credentials(choice, own=choice.base_url is not None)
        self._carrier = carrier

    @property
    def host(self) -> str:
        return self._address.host

    @property
    def port(self) -> int:
        return self._address.port

    async def send_request(
        self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes] | None
    ) -> ModelResponse:
        path, _, query = target.partition("?")
        if self._paths.get(path) != method:
            allowed = ", ".join(f"{verb} {path}" for path, verb in sorted(self._paths.items()))
            raise ModelRequestRefused(NOT_OFFERED.format(paths=allowed))
        if not _QUERY.fullmatch(query):
            raise ModelRequestRefused(NOT_PLAIN)
        if method == "GET":
            body = None
        elif body is not None:
            body = self._validated_body(headers, body)
        request = HttpRequest(
            method,
            self._base + target,
            [*_passed(headers, body), ("accept-encoding", "identity"), *self._credentials],
            body,
        )
        reply = await self._carrier.send_request(self._address, request)
        if any(name == "content-encoding" and value != "identity" for name, value in reply.headers):
            reply.close()
            raise OSError(COMPRESSED)
        return _MaskedResponse(reply, self._key)

    async def _validated_body(
        self, headers: Headers, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The body, its last piece held back until all of it has been looked at: a provider
        that has not got the end does nothing. Raises :class:`ModelRequestRefused`."""
        named = None if self._models is None else ModelFieldParser()
        if named is not None and any(name == "content-encoding" for name, _ in headers):
            raise ModelRequestRefused(ENCODED)
        size, held = 0, b""
        async for piece in body:
            size += len(piece)
            if size > BODY_LIMIT:
                raise ModelRequestRefused(TOO_LARGE)
            if named is not None:
                await self._look(named, piece)
            if held:
                yield held
            held = piece
        if named is not None:
            try:
                self._check(named.end())
            except AmbiguousModel as error:
                raise ModelRequestRefused(UNCLEAR.format(why=error)) from None
        yield held

    async def _look(self, named: ModelFieldParser, piece: bytes) -> None:
        begun = time.monotonic()
        for at in range(0, len(piece), SLICE):
            if time.monotonic() - begun > MAX_CONCURRENT:
                await asyncio.sleep(0)
                begun = time.monotonic()
            try:
                named.feed(piece[at : at + SLICE])
            except AmbiguousModel as error:
                raise ModelRequestRefused(UNCLEAR.format(why=error)) from None
        if named.name is not None:
            self._check(named.name)

    def _check(self, name: str) -> None:
        if self._models is not None and name not in self._models:
            enabled = ", ".join(self._models) or "none"
            raise ModelRequestRefused(NOT_ENABLED.format(name=name[:200], enabled=enabled))


def _passed(headers: Headers, body: object) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in headers
        if (name in _PASSED or name.startswith(_PASSED_FAMILIES))
        and (body is not None or name not in ("content-length", "content-type"))
    ]


def _credentials(choice: SelectedModel, *, own: bool) -> Sequence[tuple[str, str]]:
    """``own``: an address of one's own. Gateways that speak Anthropic's API look for either."""
    bearer = ("authorization", f"Bearer {choice.api_key}")
    if choice.api == "openai":
        return [bearer]
    key = ("x-api-key", choice.api_key)
    return [key, bearer] if own else [key]


class _MaskedResponse:
    """A provider's answer as the gateway reads it, with the key blotted out."""

    def __init__(self, reply: HttpResponse, key: str) -> None:
        self._reply = reply
        self._blotter = SecretMasker("" if key == NO_KEY else key)
        self.status = reply.status
        self.headers: Headers = [
            (name, self._blotter.mask(value.encode("latin-1")).decode("latin-1"))
            for name, value in reply.headers
            if name not in _NOT_RETURNED
        ]

    async def body(self) -> AsyncIterator[bytes]:
        async for piece in self._reply.body():
            if whole := self._blotter.take(piece):
                yield whole
        if rest := self._blotter.rest():
            yield rest

    async def close(self) -> None:
        self._reply.close()


class SecretMasker:
    """Replaces a secret in a stream, by as many stars: lengths stay what was announced. What may
    be its beginning is held back until the next piece; in a stream of lines nothing ever is."""

    def __init__(self, secret: str) -> None:
        # A short one would be found where it is none.
        self._secret = secret.encode() if len(secret) >= 8 else b""
        self._held = b""

    def mask(self, data: bytes) -> bytes:
        secret = self._secret
        return data.replace(secret, b"*" * len(secret)) if secret else data

    def take(self, data: bytes) -> bytes:
        if not self._secret:
            return data
        data = self.mask(self._held + data)
        keep = self._beginning(data)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _beginning(self, data: bytes) -> int:
        """How many of the last bytes may be the secret's first ones."""
        tail = data[1 - len(self._secret) :]
        at = tail.find(self._secret[:1])
        while at >= 0:
            if self._secret.startswith(tail[at:]):
                return len(tail) - at
            at = tail.find(self._secret[:1], at + 1)
        return 0


class ModelUpstreamFactory:
    """Makes upstreams; all of them share one pool of connections. Close it with the engine."""

    def __init__(self) -> None:
        self._carrier: ConnectionPool | None = None

    async def upstream(self, choice: SelectedModel) -> ProviderUpstream:
        """The model of ``choice``, to be lent. Raises ``TurnFailure`` for the demo."""
        if choice.api == "demo":
            raise TurnFailure(NO_PROVIDER)
        if self._carrier is None:
            tls = await asyncio.to_thread(tls_context)
            self._carrier = self._carrier or ConnectionPool(tls)
        return ProviderUpstream(choice, base_url(choice), self._carrier)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.close()
