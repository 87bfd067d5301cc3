"""The one table from error codes to HTTP statuses, and the one shape of an error response.

Every response of this extension with a status of 400 or more is
``{"error": {"type", "code", "message"}}`` (contract, Errors).
"""

from __future__ import annotations

from typing import Any

from tornado import web

from ..loops.errors import DomainError, InvalidRequest, Overloaded, TooManyRequests

STATUS: dict[str, int] = {
    "invalid_json": 400,
    "invalid_parameter": 400,
    "invalid_cursor": 400,
    "title_too_long": 400,
    "metadata_too_large": 400,
    "unknown_profile": 400,
    "unknown_vault": 400,
    "unknown_repo": 400,
    "missing_content": 400,
    "content_too_large": 400,
    "idempotency_key_too_long": 400,
    "loop_archived": 400,
    "invalid_choice_payload": 400,
    "missing_credentials": 401,
    "invalid_token": 401,
    "not_loop_owner": 403,
    "xsrf_failed": 403,
    "forbidden": 403,
    "loop_not_found": 404,
    "choice_not_found": 404,
    "token_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_key_reused": 409,
    "body_too_large": 413,
    "too_many_requests": 429,
    "internal": 500,
    "sandbox_spawn_failed": 500,
    "overloaded": 503,
}

TYPES: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "internal_error",
    503: "internal_error",
}


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"


class MissingCredentials(DomainError):
    code = "missing_credentials"


class InvalidToken(DomainError):
    code = "invalid_token"


class XsrfFailed(DomainError):
    code = "xsrf_failed"


def from_http_error(error: web.HTTPError) -> DomainError:
    """The contract's error for one that Tornado or jupyter_server raised."""
    if error.status_code == 404:
        return _generic_error("not_found", "There is nothing at this address.")
    if error.status_code == 405:
        return MethodNotAllowed("This address does not take that method.")
    if error.status_code == 403:
        return _generic_error("forbidden", "The server refuses this request.")
    if error.status_code == 413:
        return BodyTooLarge("The body is larger than 8 MiB.")
    if 400 <= error.status_code < 500:
        return _generic_error("invalid_parameter", "The request is malformed.")
    return _generic_error("internal", INTERNAL)


INTERNAL = (
    "Something unexpected failed in the server; its log has the details. Nothing of this request "
    "was acknowledged: it is safe to send it again with the same Idempotency-Key."
)


def _generic_error(code: str, message: str) -> DomainError:
    error = DomainError(message)
    error.code = code  # type: ignore[misc]  # an instance of the base stands for any code
    return error


def error_body(code: str, message: str) -> dict[str, Any]:
    """The body of the response with that error."""
    return {"error": {"type": TYPES[STATUS[code]], "code": code, "message": message}}


def to_response(error: BaseException | None) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and extra headers of the response to ``error``."""
    if isinstance(error, web.HTTPError):
        error = from_http_error(error)
    if not isinstance(error, DomainError):
        error = _generic_error("internal", INTERNAL)
    status = STATUS[error.code]
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded | TooManyRequests):
        headers["Retry-After"] = str(max(1, error.retry_after))
    return status, error_body(error.code, error.message), headers
