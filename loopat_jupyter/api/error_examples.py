"""One message for each error code, for the examples of the OpenAPI document.

The real ones name what was wrong in the request at hand; these show their tone and shape.
"""

from __future__ import annotations

from typing import Any

from .errors import INTERNAL, STATUS, TYPES

MESSAGES: dict[str, str] = {
    "invalid_json": "The body must be a JSON object.",
    "invalid_parameter": "limit: Input should be less than or equal to 100.",
    "invalid_cursor": "This loop's newest event is 41; there is no 99 yet.",
    "title_too_long": "A title has at most 200 characters.",
    "metadata_too_large": "Metadata takes at most 16 KiB as compact JSON.",
    "unknown_profile": 'There is no profile "reviewer". The profiles are: analyst, default.',
    "unknown_vault": 'There is no vault "work". The vaults are: default.',
    "unknown_repo": 'There is no repository "website". The repositories are: data.',
    "missing_content": 'A message needs "content": the text for the agent.',
    "content_too_large": "A message has at most 1 MiB of UTF-8.",
    "idempotency_key_too_long": "An Idempotency-Key has at most 256 characters.",
    "loop_archived": "This loop is archived and takes no messages. Create a new one.",
    "invalid_choice_payload": 'A permission is answered with {"allow": true} or false.',
    "missing_credentials": "Log in to the Jupyter server, or send an API token: "
    "Authorization: Bearer la_…",
    "invalid_token": "This API token is unknown or was revoked.",
    "not_loop_owner": "This loop belongs to somebody else.",
    "xsrf_failed": "The X-XSRFToken header does not match the _xsrf cookie. Reload the page.",
    "forbidden": "This server's administrator does not allow you that.",
    "loop_not_found": "You have no such loop.",
    "choice_not_found": "This choice is not pending (any more).",
    "token_not_found": "You have no such token.",
    "not_found": "There is nothing at this address.",
    "method_not_allowed": "This address takes GET, POST only.",
    "idempotency_key_reused": "This Idempotency-Key was used for another message. "
    "Use a new key for a new message.",
    "body_too_large": "The body is larger than 8 MiB.",
    "too_many_requests": "This token may make 60 requests a minute. Nothing was done: "
    "try again in 2 s.",
    "internal": INTERNAL,
    "sandbox_spawn_failed": "No sandbox can be started on this host: run `loopat doctor`.",
    "overloaded": "The server has all the work it will take. Nothing was done: try again in 5 s.",
}


def error_example(code: str) -> dict[str, Any]:
    """The body of a response with that code."""
    return {"error": {"type": TYPES[STATUS[code]], "code": code, "message": MESSAGES[code]}}
