"""The upstream of a model gateway: a configured provider, whose key is added here in the server.

A program in the sandbox may request only what such programs need of a model: messages and what
belongs to them, below the provider's base URL, with the methods and parameters that these have, and
of models that the administrator has enabled. Headers pass by an allow-list. The key never reaches
the sandbox: where a response repeats it, it is masked.
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
"""By API: the paths that may be requested, and their method."""
BODY_LIMIT = 32 * 1024 * 1024
SLICE = 8 * 1024
"""Bytes of a body that are parsed at a time."""
PARSE_SECONDS = 0.002
"""After so long the parsing of a body lets other tasks run."""

NOT_OFFERED = "Of the model provider only these can be asked from inside: {paths}."
INVALID_QUERY = "This query, or a part of it, is none that belongs to the request."
TOO_LARGE = "A request to the model may have 32 MiB."
COMPRESSED_BODY = (
    "A request to the model must not be compressed: which model it names is looked at."
)
AMBIGUOUS = "Which model the request names cannot be said with certainty: {why}."
NOT_ENABLED = "The model {name!r} is not enabled in config.json. Enabled are: {enabled}."
COMPRESSED_RESPONSE = "its answer is compressed, though that was not asked for"
NO_PROVIDER = (
    "The demo model lives in the server and cannot be used by an agent in the sandbox. Describe a "
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
    """Implements :class:`~loopat_jupyter.loops.ports.network.ModelUpstream` for one model."""

    def __init__(self, model: SelectedModel, base_url: str, pool: ConnectionPool) -> None:
        url = urlsplit(base_url)
        tls = url.scheme == "https"
        host = (url.hostname or "").encode("idna").decode()
        self._address = UpstreamAddress(tls, host, url.port or (443 if tls else 80))
        self._base = quote(url.path, safe="/%-._~!$&'()*+,;=:@")
        self._paths = PATHS[model.api]
        self._models = model.models
        self._key = model.api_key
        self._credentials = _credentials(model, own_address=model.base_url is not None)
        self._pool = pool

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
            raise ModelRequestRefused(INVALID_QUERY)
        if method == "GET":
            body = None
        elif body is not None:
            body = self._validated_body(headers, body)
        request = HttpRequest(
            method,
            self._base + target,
            [*_passed_headers(headers, body), ("accept-encoding", "identity"), *self._credentials],
            body,
        )
        response = await self._pool.send_request(self._address, request)
        if any(
            name == "content-encoding" and value != "identity" for name, value in response.headers
        ):
            response.close()
            raise OSError(COMPRESSED_RESPONSE)
        return _MaskedResponse(response, self._key)

    async def _validated_body(
        self, headers: Headers, body: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The body, its last piece held back until the whole has been checked: a provider does
        nothing before it has the end. Raises :class:`ModelRequestRefused`."""
        parser = None if self._models is None else ModelFieldParser()
        if parser is not None and any(name == "content-encoding" for name, _ in headers):
            raise ModelRequestRefused(COMPRESSED_BODY)
        size, held = 0, b""
        async for piece in body:
            size += len(piece)
            if size > BODY_LIMIT:
                raise ModelRequestRefused(TOO_LARGE)
            if parser is not None:
                await self._parse(parser, piece)
            if held:
                yield held
            held = piece
        if parser is not None:
            try:
                self._check_enabled(parser.end())
            except AmbiguousModel as error:
                raise ModelRequestRefused(AMBIGUOUS.format(why=error)) from None
        yield held

    async def _parse(self, parser: ModelFieldParser, piece: bytes) -> None:
        """Parse a piece of the body. A model that is named is checked at once, so that a request
        which is to be refused is not read to its end."""
        begun = time.monotonic()
        for at in range(0, len(piece), SLICE):
            if time.monotonic() - begun > PARSE_SECONDS:
                await asyncio.sleep(0)
                begun = time.monotonic()
            try:
                parser.feed(piece[at : at + SLICE])
            except AmbiguousModel as error:
                raise ModelRequestRefused(AMBIGUOUS.format(why=error)) from None
        if parser.name is not None:
            self._check_enabled(parser.name)

    def _check_enabled(self, name: str) -> None:
        if self._models is not None and name not in self._models:
            enabled = ", ".join(self._models) or "none"
            raise ModelRequestRefused(NOT_ENABLED.format(name=name[:200], enabled=enabled))


def _passed_headers(headers: Headers, body: object) -> list[tuple[str, str]]:
    """The headers of the sandbox's request that the provider gets."""
    return [
        (name, value)
        for name, value in headers
        if (name in _PASSED or name.startswith(_PASSED_FAMILIES))
        and (body is not None or name not in ("content-length", "content-type"))
    ]


def _credentials(model: SelectedModel, *, own_address: bool) -> Sequence[tuple[str, str]]:
    """The headers with the key. ``own_address``: ``config.json`` has a base URL; servers there that
    speak Anthropic's API look for either header."""
    bearer = ("authorization", f"Bearer {model.api_key}")
    if model.api == "openai":
        return [bearer]
    key = ("x-api-key", model.api_key)
    return [key, bearer] if own_address else [key]


class _MaskedResponse:
    """A provider's response with the key masked in headers and body."""

    def __init__(self, response: HttpResponse, key: str) -> None:
        self._response = response
        self._masker = SecretMasker("" if key == NO_KEY else key)
        self.status = response.status
        self.headers: Headers = [
            (name, self._masker.mask(value.encode("latin-1")).decode("latin-1"))
            for name, value in response.headers
            if name not in _NOT_RETURNED
        ]

    async def body(self) -> AsyncIterator[bytes]:
        async for piece in self._response.body():
            if masked := self._masker.feed(piece):
                yield masked
        if remaining := self._masker.end():
            yield remaining

    async def close(self) -> None:
        self._response.close()


class SecretMasker:
    """Replaces a secret in a stream by as many stars, so that a ``content-length`` stays right.

    The end of a piece that may be the secret's beginning is held back until the next piece.
    """

    def __init__(self, secret: str) -> None:
        # A short one would be found in text that is no secret.
        self._secret = secret.encode() if len(secret) >= 8 else b""
        self._held = b""

    def mask(self, data: bytes) -> bytes:
        """``data``, which is complete, without the secret."""
        secret = self._secret
        return data.replace(secret, b"*" * len(secret)) if secret else data

    def feed(self, data: bytes) -> bytes:
        if not self._secret:
            return data
        data = self.mask(self._held + data)
        passed = len(data) - self._partial_match(data)
        self._held = data[passed:]
        return data[:passed]

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _partial_match(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of the secret."""
        tail = data[1 - len(self._secret) :]
        at = tail.find(self._secret[:1])
        while at >= 0:
            if self._secret.startswith(tail[at:]):
                return len(tail) - at
            at = tail.find(self._secret[:1], at + 1)
        return 0


class ModelUpstreamFactory:
    """Creates upstreams that share one pool of connections. Closed with the engine that owns it."""

    def __init__(self) -> None:
        self._pool: ConnectionPool | None = None

    async def upstream(self, model: SelectedModel) -> ProviderUpstream:
        """The upstream of a model. Raises ``TurnFailure`` for the demo, which has no provider."""
        if model.api == "demo":
            raise TurnFailure(NO_PROVIDER)
        if self._pool is None:
            tls = await asyncio.to_thread(tls_context)
            self._pool = self._pool or ConnectionPool(tls)
        return ProviderUpstream(model, base_url(model), self._pool)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
