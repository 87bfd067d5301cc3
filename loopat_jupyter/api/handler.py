"""The base of every handler: authentication, the order of checks, request bodies, errors.

The order is the contract's: credentials (401, also for unknown routes), then existence, ownership,
state, body. :meth:`LoopatHandler.prepare` checks credentials for every route; the handlers check
the rest with :meth:`owned_loop` and :meth:`read_body`, in that order.

``prepare`` does not call its parent's, because jupyter_server responds with 403 or a redirect where
the contract says 401, and checks XSRF before it knows whether there are credentials at all.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import pydantic_core
from jupyter_core.utils import ensure_async
from jupyter_server.auth import IdentityProvider, User
from jupyter_server.base.call_context import CallContext
from jupyter_server.base.handlers import APIHandler
from jupyter_server.base.handlers import __name__ as jupyter_handlers
from jupyter_server.extension.handler import ExtensionHandlerMixin
from jupyter_server.utils import url_path_join
from pydantic import BaseModel, ValidationError
from tornado import web

from ..loops.errors import DomainError, InvalidParameter, PermissionRefused
from ..loops.event_broadcaster import EventBroadcaster
from ..loops.models import LoopRecord
from ..loops.ports.engine import EngineSet
from ..loops.ports.files import LoopFileStore
from ..loops.ports.sandbox import SandboxIsolation
from ..loops.ports.store import StorePort
from ..loops.service import LoopService
from .auth import TOKEN_PREFIX, ApiTokenService, Caller, resolve_owner
from .errors import (
    BodyTooLarge,
    InvalidJson,
    MethodNotAllowed,
    MissingCredentials,
    XsrfFailed,
    from_http_error,
    to_response,
)
from .rate_limit import RateLimiter
from .request_body import parse_object

B = TypeVar("B", bound=BaseModel)

Credentials = Literal["any", "session", "none"]
"""What an address takes: an API token or a Jupyter session; a session alone; or it is open."""

MAX_BODY = 8 << 20
"""Bytes."""
NO_XSRF = "The X-XSRFToken header does not match the _xsrf cookie. Reload the page."
RESOURCE = "loopat"
"""What an administrator's Authorizer is asked about; the action is ``read`` or ``write``."""


@dataclass(slots=True)
class ApiContext:
    """What the handlers work with; ``settings["loopat_api_context"]``.

    ``service`` does what changes a loop. What only reads goes straight to the part that knows:
    records to ``store``, live events to ``broadcaster``, a loop's files to ``files``. A handler
    hands them only loops that :meth:`LoopatHandler.owned_loop` gave it.
    """

    service: LoopService
    store: StorePort
    broadcaster: EventBroadcaster
    files: LoopFileStore
    engines: EngineSet
    isolation: SandboxIsolation
    """What the sandboxes of this server enforce."""
    tokens: ApiTokenService
    limiter: RateLimiter
    ping_interval: float
    token_session: bool
    """Whether a Jupyter server token may call ``/me/tokens*`` like a browser session."""
    ready: asyncio.Event
    """Set when the store takes requests; a request that comes earlier waits."""


@web.stream_request_body
class LoopatHandler(ExtensionHandlerMixin, APIHandler):
    """See the module's docstring. A subclass implements the verbs its address takes, and sets
    ``credentials`` where they are not the usual ones."""

    credentials: ClassVar[Credentials] = "any"
    caller: Caller

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """The HTTP methods that the address takes: those whose verb the handler implements."""
        return tuple(
            method
            for method in cls.SUPPORTED_METHODS
            if method not in ("HEAD", "OPTIONS")  # Tornado and jupyter_server implement these
            and getattr(cls, method.lower()) is not web.RequestHandler._unimplemented_method
        )

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        # Whatever the method, it meets our checks before it is refused: 401 comes first. One that
        # is none of HTTP's gets a name that is no attribute of ours (``FINISH``, ``REQUEST``).
        if self.request.method not in type(self).SUPPORTED_METHODS:
            self.request.method = f"?{self.request.method}"
        self.SUPPORTED_METHODS = (*type(self).SUPPORTED_METHODS, self.request.method or "")
        self._chunks: list[bytes] = []
        self._received = 0
        self._refusal: DomainError | web.HTTPError | None = None

    @property
    def context(self) -> ApiContext:
        context: ApiContext = self.settings["loopat_api_context"]
        return context

    @property
    def service(self) -> LoopService:
        return self.context.service

    def address(self, *parts: str) -> str:
        """A path under this server's base URL."""
        return str(url_path_join(self.base_url, "loopat/api/v1", *parts))

    # ------------------------------------------------------------------ authentication

    async def prepare(self) -> None:  # type: ignore[override]  # the parent's option is for pages
        CallContext.set(CallContext.JUPYTER_HANDLER, self)  # providers and authorizers may ask
        try:
            await self._authenticate()
        except (DomainError, web.HTTPError) as error:
            # A response before the body was read would make Tornado close the connection, and a
            # client that is still sending might never see it. The verb raises it, after the body.
            self._refusal = error
            setattr(self, (self.request.method or "").lower(), self._refuse)

    async def _refuse(self, *_: str) -> None:
        assert self._refusal is not None
        raise self._refusal

    async def _authenticate(self) -> None:
        if not self.check_host():
            self.current_user = self._jupyter_current_user = None
            raise PermissionRefused("The server does not answer to this Host.")
        method = self.request.method or ""
        if method == "OPTIONS" and (self.allow_origin or self.allow_origin_pat):
            self.current_user = self._jupyter_current_user = None  # a preflight has no credentials
            self.set_cors_headers()
            return
        takes_method = method in self.methods()
        if self.credentials == "none" and takes_method and self.is_public():
            self.current_user = self._jupyter_current_user = None
            return
        secret = self._bearer()
        await self.context.ready.wait()
        if secret is not None:
            await self._authenticate_api_token(secret)
        else:
            await self._authenticate_jupyter_user(method)
        if not takes_method:
            self._refuse_method()
        await self._authorize("read" if method in ("GET", "HEAD") else "write")

    def is_public(self) -> bool:
        """Whether the address exists, asked where ``credentials`` is ``none``. One that does not
        is treated as an unknown route: 401 without credentials."""
        return True

    def _bearer(self) -> str | None:
        scheme, _, secret = self.request.headers.get("Authorization", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() == "bearer" and secret.startswith(TOKEN_PREFIX):
            return secret
        return None

    async def _authenticate_api_token(self, secret: str) -> None:
        if self.credentials == "session":
            raise MissingCredentials("API tokens are made and revoked in a browser session only.")
        token = await self.context.tokens.authenticate(secret)
        # Marked as token-authenticated, so that nothing of jupyter_server asks for a cookie.
        self._token_authenticated = True
        self.current_user = self._jupyter_current_user = User(username=token.owner)
        self.caller = Caller(token.owner, "api_token", token.token_id)
        self.set_cors_headers()
        self.context.limiter.check(token.token_id)

    async def _authenticate_jupyter_user(self, method: str) -> None:
        user, is_named = await self._jupyter_user()
        self.current_user = self._jupyter_current_user = user
        self.set_cors_headers()
        if not self.check_origin():
            raise PermissionRefused("The server does not answer to pages of this Origin.")
        if user is None:
            self._detect_hub_xsrf_failure(method)
            raise MissingCredentials(
                "Log in to the Jupyter server, or send an API token: Authorization: Bearer la_…"
            )
        if method not in ("GET", "HEAD", "OPTIONS"):
            self._check_xsrf()
        by_token = bool(self.token_authenticated)
        if by_token and self.credentials == "session" and not self.context.token_session:
            raise MissingCredentials(
                "API tokens are made and revoked in a browser session only (an administrator can "
                "allow the server token with LoopatExtension.token_session)."
            )
        name = user.username if is_named else resolve_owner(self.identity_provider, user)
        self.caller = Caller(name, "jupyter_token" if by_token else "cookie")

    async def _jupyter_user(self) -> tuple[User | None, bool]:
        """The user, ``None`` without valid credentials; and whether the name is final, because an
        old Hub's own method gave it instead of an identity provider."""
        module = inspect.getmodule(self.get_current_user)
        overridden = module is not None and module.__name__ != jupyter_handlers
        if type(self.identity_provider) is IdentityProvider and overridden:
            # A Hub before 3.0 overrides get_current_user in place of an identity provider.
            legacy: Any = self.get_current_user()
            return User(legacy) if isinstance(legacy, str) else None, True
        found: User | Awaitable[User | None] | None = self.identity_provider.get_user(self)
        return await found if isinstance(found, Awaitable) else found, False

    def _detect_hub_xsrf_failure(self, method: str) -> None:
        """Raises ``XsrfFailed`` where a missing XSRF token is why there is no user: a Hub's
        provider checks it itself, and returns no user when it fails."""
        cookies = [name.removeprefix("__Host-") for name in self.request.cookies]
        is_hub_session = any(name.startswith("jupyterhub-user-") for name in cookies)
        has_token = "X-XSRFToken" in self.request.headers or self.get_query_argument("_xsrf", "")
        if is_hub_session and not has_token and method not in ("GET", "HEAD", "OPTIONS"):
            raise XsrfFailed(NO_XSRF)

    def _check_xsrf(self) -> None:
        try:
            self.check_xsrf_cookie()
        except web.HTTPError as error:
            raise XsrfFailed(NO_XSRF) from error

    def _refuse_method(self) -> None:
        allowed = ", ".join(self.methods())
        if not allowed:
            raise web.HTTPError(404)
        self.set_header("Allow", allowed)
        raise MethodNotAllowed(f"This address takes {allowed} only.")

    async def _authorize(self, action: str) -> None:
        """Ask the administrator's Authorizer; explicitly, because jupyter_server's decorator
        remembers the first caller's action and resource."""
        allowed = await ensure_async(
            self.authorizer.is_authorized(self, self.current_user, action, RESOURCE)
        )
        if not allowed:
            raise PermissionRefused("This server's administrator does not allow you that.")

    # ------------------------------------------------------------------ the request

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """Part of the path as text. An id that is not UTF-8 is unknown, not malformed."""
        return value.decode("utf-8", "replace")

    async def owned_loop(self, loop_id: str) -> LoopRecord:
        """The loop in the path. Raises ``LoopNotFound``, ``NotLoopOwner``."""
        loop = await self.service.owned_loop(self.caller.name, loop_id)
        if self.request.method in ("GET", "DELETE"):  # the others read the body, after the state
            self.refuse_oversized()
        return loop

    def data_received(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received <= MAX_BODY and self._refusal is None:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def refuse_oversized(self) -> None:
        """Raises ``BodyTooLarge``; called by every verb, also where the body is not read."""
        if self._received > MAX_BODY:
            raise BodyTooLarge("The body is larger than 8 MiB.")

    def read_bytes(self) -> bytes:
        """The body as it came. Raises ``BodyTooLarge``."""
        self.refuse_oversized()
        return b"".join(self._chunks)

    async def read_json(self, *, optional: bool = False) -> dict[str, Any]:
        """The body as a JSON object. Raises ``InvalidJson``, ``BodyTooLarge``."""
        body = self.read_bytes()
        if optional and not body:
            return {}
        self._check_content_type()
        return await parse_object(body)

    def _check_content_type(self) -> None:
        declared = self.request.headers.get("Content-Type")
        if declared is None:
            return
        kind, *parameters = (part.strip().lower() for part in declared.split(";"))
        charsets = [p.partition("=")[2].strip('"') for p in parameters if p.startswith("charset")]
        is_json = kind == "application/json" or kind.endswith("+json")
        if not is_json or any(charset not in ("utf-8", "utf8") for charset in charsets):
            raise InvalidJson(
                "Send the body as JSON in UTF-8, with the header Content-Type: application/json."
            )

    async def read_body(self, model: type[B], *, optional: bool = False) -> B:
        """The body as ``model``. What does not fit is ``InvalidParameter``."""
        return parse(model, await self.read_json(optional=optional))

    def read_query(self, model: type[B]) -> B:
        """The query string as ``model``; of a repeated parameter the last counts."""
        given = {name: self._last(values) for name, values in self.request.query_arguments.items()}
        return parse(model, given)

    def _last(self, values: list[bytes]) -> str:
        try:
            return values[-1].decode()
        except UnicodeDecodeError as error:
            raise InvalidParameter("The query string is not UTF-8.") from error

    # ------------------------------------------------------------------ the response

    def abort_connection(self) -> None:
        """Close the connection. Once a response's head was sent, that is the only way to tell the
        client that the rest will not come."""
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None:
            stream.close()

    def send_json(self, status: int, body: BaseModel | None = None) -> None:
        self.set_status(status)
        if body is None:
            self.finish()
        else:
            self.finish(body.model_dump_json(by_alias=True, exclude_unset=True))

    async def send_json_in_thread(
        self, status: int, body: BaseModel, *, exclude: Any = None
    ) -> None:
        """Like :meth:`send_json`, for what may take long to encode. ``exclude`` is pydantic's."""
        text = await asyncio.to_thread(
            body.model_dump_json, by_alias=True, exclude_unset=True, exclude=exclude
        )
        self.set_status(status)
        self.finish(text)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        exc_info = kwargs.get("exc_info")
        error = exc_info[1] if exc_info else from_http_error(web.HTTPError(status_code))
        status, body, headers = to_response(error)
        self.set_status(status)
        for name, value in headers.items():
            self.set_header(name, value)
        self.finish(pydantic_core.to_json(body))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if isinstance(value, DomainError):
            self.log.debug("loopat: %s: %s", value.code, value.message)
        else:
            super().log_exception(typ, value, tb)

    def compute_etag(self) -> str | None:
        return None  # hashing every response would cost more than it saves


def parse(model: type[B], value: dict[str, Any]) -> B:
    """``value`` as ``model``; an optional field that is ``null`` counts as absent.

    Raises:
        InvalidParameter: naming the field; or what the model's validators raise.
    """
    given = {name: item for name, item in value.items() if item is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidParameter(f"{where}: {first['msg']}.") from error


class UnknownRoute(LoopatHandler):
    """Every other address under ``loopat/api``: 401 without credentials, else 404."""
