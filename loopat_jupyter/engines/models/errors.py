"""The errors of the SDKs, each as a :class:`~loopat_jupyter.engines.models.port.ModelError`."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import httpx2
from pydantic import ValidationError
from pydantic_ai import exceptions as wire

from .port import ModelError

MESSAGE_LIMIT = 500
_RETRYABLE = (
    wire.ModelRateLimitError,
    wire.ModelUnavailableError,
    wire.ModelServerError,
    wire.ModelConnectionError,
)
_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_TOO_LONG_STATUS = frozenset({400, 413, 422, 500})
_TOO_LONG = re.compile(
    r"prompt is too long|context[ _-]?(length|window|size)|maximum context|too many tokens"
    r"|reduce the length|exceeds? the (available|model'?s) ",
    re.IGNORECASE,
)
_FOREIGN = (
    httpx2.HTTPError,
    httpx2.StreamError,
    ValidationError,
    ValueError,
    TypeError,
    AttributeError,
)
"""What the SDKs raise when a server sends something that is not their protocol."""


@contextmanager
def as_model_error(secret: str, sdk_error: type[Exception]) -> Generator[None]:
    """Raise every error of the model call inside as a :class:`ModelError` without ``secret``."""
    try:
        yield
    except wire.ModelAPIError as error:
        raise _api_failure(error, secret) from error
    except (wire.AgentRunError, wire.UserError) as error:
        raise ModelError(_clean(error.message, secret)) from error
    except (sdk_error, *_FOREIGN) as error:
        text = _clean(str(error), secret)
        retryable = isinstance(error, httpx2.TransportError)
        raise ModelError(
            f"It sent what is no valid answer ({type(error).__name__}: {text}).",
            retryable=retryable,
        ) from error


def _api_failure(error: wire.ModelAPIError, secret: str) -> ModelError:
    status = error.status_code if isinstance(error, wire.ModelHTTPError) else None
    text = _provider_text(error)
    too_long = isinstance(error, wire.ModelContextWindowExceededError) or (
        status in _TOO_LONG_STATUS and _TOO_LONG.search(text) is not None
    )
    message = _clean(text, secret)
    return ModelError(
        f"{message} (HTTP status {status})" if status else message,
        retryable=not too_long and _is_retryable(error, status),
        retry_after=error.retry_after,
        too_long=too_long,
    )


def _is_retryable(error: wire.ModelAPIError, status: int | None) -> bool:
    if isinstance(error, wire.ModelQuotaExceededError):
        return False
    hint = error.provider_retry_hint if isinstance(error, wire.ModelHTTPError) else None
    if hint is not None:
        return hint
    return isinstance(error, _RETRYABLE) or status in _RETRYABLE_STATUS or (status or 0) >= 500


def _provider_text(error: wire.ModelAPIError) -> str:
    """The provider's own message; the SDK's where there is none."""
    body: object = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, Mapping) else inner
        if isinstance(message, str) and message.strip():
            return message
    if isinstance(error, wire.ModelHTTPError):
        plain = body if isinstance(body, str) and "<" not in body else ""
        return plain.strip() or "The provider refused the request."
    return error.message


def _clean(text: str, secret: str) -> str:
    """One short line without the key."""
    if len(secret) >= 4:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LIMIT else f"{text[:MESSAGE_LIMIT]}…"
