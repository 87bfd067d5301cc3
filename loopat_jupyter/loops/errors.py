"""The domain's exceptions, one class for each error code of the contract.

Every exception a caller of this package must expect derives from :class:`DomainError`. ``code`` is
the contract's error code; the one table in :mod:`loopat_jupyter.api.errors` gives its HTTP status
and error type. The message is shown to people: it says what happened and what to do next, and holds
no traceback, no path of the server and no secret.
"""

from __future__ import annotations

from typing import ClassVar


class DomainError(Exception):
    """Base of everything the domain raises on purpose."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(DomainError):
    """The request itself is wrong; sending it again unchanged cannot help."""

    code = "invalid_parameter"


class InvalidParameter(InvalidRequest):
    code = "invalid_parameter"


class InvalidCursor(InvalidRequest):
    code = "invalid_cursor"


class TitleTooLong(InvalidRequest):
    code = "title_too_long"


class MetadataTooLarge(InvalidRequest):
    code = "metadata_too_large"


class UnknownProfile(InvalidRequest):
    code = "unknown_profile"


class UnknownVault(InvalidRequest):
    code = "unknown_vault"


class UnknownRepo(InvalidRequest):
    code = "unknown_repo"


class MissingContent(InvalidRequest):
    code = "missing_content"


class ContentTooLarge(InvalidRequest):
    code = "content_too_large"


class IdempotencyKeyTooLong(InvalidRequest):
    code = "idempotency_key_too_long"


class LoopArchived(InvalidRequest):
    code = "loop_archived"


class InvalidChoicePayload(InvalidRequest):
    code = "invalid_choice_payload"


class PermissionRefused(DomainError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class NotLoopOwner(PermissionRefused):
    code = "not_loop_owner"


class NotFound(DomainError):
    code = "not_found"


class LoopNotFound(NotFound):
    code = "loop_not_found"


class ChoiceNotFound(NotFound):
    code = "choice_not_found"


class TokenNotFound(NotFound):
    code = "token_not_found"


class IdempotencyKeyReused(DomainError):
    """The key was used for another loop or another body within its window."""

    code = "idempotency_key_reused"


class Overloaded(DomainError):
    """The server has all the work it will take; ``retry_after`` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooManyRequests(DomainError):
    """A token is over its rate; ``retry_after`` is in seconds."""

    code = "too_many_requests"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SandboxSpawnFailed(DomainError):
    """No sandbox could be started. The message says how to fix the host."""

    code = "sandbox_spawn_failed"


class SandboxLost(DomainError):
    """The sandbox ended while it was being used (killed, out of memory, evicted)."""

    code = "internal"


class TurnFailure(DomainError):
    """An engine gives its turn up. ``code`` is one of the contract's ``error`` event codes."""

    code = "agent_error"

    def __init__(self, message: str, code: str = "agent_error") -> None:
        super().__init__(message)
        self.event_code = code


class ConfigError(TurnFailure):
    """``config.json`` (or what it refers to) is broken. Names file and line, or the variable."""


class StoreError(DomainError):
    """The store refused a write (disk full, I/O error). Nothing of that write was kept."""
