"""The exceptions of the client.

    LoopatError
    ├── APIError                 a response with a status of 400 or more
    │   ├── InvalidRequestError      invalid_request_error: unchanged, it can never succeed
    │   ├── AuthenticationError      authentication_error: no credentials, or bad ones
    │   ├── PermissionDeniedError    permission_error: known caller, not allowed
    │   ├── NotFoundError            not_found_error: no such loop, choice or token
    │   ├── ConflictError            conflict_error: the idempotency key was used otherwise
    │   ├── RateLimitError           rate_limit_error: too many requests, see ``retry_after``
    │   └── InternalError            internal_error: the server failed or is overloaded
    ├── UnexpectedResponse       a response that is not of the Loop API
    ├── ServerNotFound           ``connect()`` found no server, the message names where it looked
    ├── ConnectionFailed         no response: refused, unreachable, TLS, timed out
    │   └── StreamLost               a stream broke and could not be resumed
    ├── TurnFailed               the turn ended with ``error``; ``code`` is the event's
    │   └── TurnInterrupted          the turn ended with ``interrupted``
    └── ChoiceRequired           a person has to decide, and the policy says not to wait

Every class has ``code``, a word that a program can compare, and ``message``, a sentence for
people. For :class:`APIError` and its subclasses ``code`` is the API's error code. ``TurnFailed``
and ``TurnInterrupted`` are in ``_result``, with the result that they carry.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ._events import RequiresChoice


class LoopatError(Exception):
    """Base class of the client's exceptions."""

    code: str = "client_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def _render_traceback_(self) -> list[str]:
        """The traceback that IPython displays and saves: one sentence, without local paths.

        IPython calls the method of this name. The line number is that of the running cell; the
        full traceback stays in ``__traceback__``.
        """
        frames = traceback.walk_tb(self.__traceback__)
        lines = [line for frame, line in frames if frame.f_globals.get("__name__") == "__main__"]
        where = f" (line {lines[-1]} of the cell)" if lines else ""
        return [f"{type(self).__name__}: {self}{where}"]


class APIError(LoopatError):
    """An error response of the API. ``retry_after`` is in seconds, where the server sent it."""

    type: ClassVar[str] = "api_error"

    def __init__(
        self, message: str, *, status: int, code: str, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class InvalidRequestError(APIError):
    type = "invalid_request_error"


class AuthenticationError(APIError):
    type = "authentication_error"


class PermissionDeniedError(APIError):
    type = "permission_error"


class NotFoundError(APIError):
    type = "not_found_error"


class ConflictError(APIError):
    type = "conflict_error"


class RateLimitError(APIError):
    type = "rate_limit_error"


class InternalError(APIError):
    type = "internal_error"


class UnexpectedResponse(LoopatError):
    """Not a response of the Loop API: a login page, a proxy's page, another server."""

    code = "unexpected_response"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ServerNotFound(LoopatError):
    code = "server_not_found"


class ConnectionFailed(LoopatError):
    code = "connection_failed"


class StreamLost(ConnectionFailed):
    """The stream could not be resumed.

    The turn continues in the server; its events after ``cursor`` can be read later.
    """

    code = "stream_lost"

    def __init__(self, message: str, *, cursor: int | None) -> None:
        super().__init__(message)
        self.cursor = cursor


class ChoiceRequired(LoopatError):
    """The turn keeps waiting, on disk, until somebody who may resolves ``request``."""

    code = "choice_required"

    def __init__(self, message: str, request: RequiresChoice) -> None:
        super().__init__(message)
        self.request = request


_BY_TYPE: dict[str, type[APIError]] = {
    cls.type: cls
    for cls in (
        InvalidRequestError,
        AuthenticationError,
        PermissionDeniedError,
        NotFoundError,
        ConflictError,
        RateLimitError,
        InternalError,
    )
}
_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    429: RateLimitError,
    502: InternalError,
    503: InternalError,
    504: InternalError,
}


def error_from_response(
    status: int, body: Any, *, url: str, retry_after: str | None
) -> LoopatError:
    """The exception for a response that is no success.

    ``body`` is the decoded JSON, or ``None``. Proxies and login layers in front of the server
    respond without the API's error body; their statuses are mapped by number.
    """
    seconds = _seconds(retry_after)
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and isinstance(error.get("type"), str):
        cls = _BY_TYPE.get(error["type"], APIError)
        code, message = str(error.get("code", "")), str(error.get("message", ""))
        return cls(message or code, status=status, code=code, retry_after=seconds)
    if status in _BY_STATUS:
        message = f"{url} answered with status {status} and no explanation"
        return _BY_STATUS[status](
            message, status=status, code=f"http_{status}", retry_after=seconds
        )
    hint = "is the loopat extension enabled in that server, and is this its base URL?"
    if 300 <= status < 400:
        hint = "it sends elsewhere, probably to a login page"
    return UnexpectedResponse(
        f"{url} answered with status {status} and not as a Loop API: {hint}", status=status
    )


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:  # an HTTP date: legal, but the API sends seconds
        return None
