"""A person's mistake or the server's error as one readable sentence without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from IPython.core.error import UsageError

from loopat_jupyter.client import (
    APIError,
    AuthenticationError,
    ChoiceRequired,
    ConnectionFailed,
    LoopatError,
    ServerNotFound,
    StreamLost,
    TurnFailed,
)
from loopat_jupyter.transcript.escape import one_line


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Within the block, errors of the client become a :class:`UsageError`.

    A ``KeyboardInterrupt`` stays one, but is shown in one line: a traceback would put the path of
    this package on the server's machine into the notebook, and help nobody.
    """
    try:
        yield
    except LoopatError as error:
        raise UsageError(sentence(error)) from None
    except KeyboardInterrupt as error:
        error._render_traceback_ = _one_line_traceback  # type: ignore[attr-defined]  # IPython's name
        raise


def _one_line_traceback() -> list[str]:
    return ["KeyboardInterrupt: the cell was interrupted"]


def sentence(error: LoopatError) -> str:
    """What happened, whether the turn goes on, and what to do next."""
    message = one_line(error.message, None)  # an agent's text may be in it
    match error:
        case StreamLost():
            return f"{message}. The turn goes on in the server: %loop status shows its state"
        case ServerNotFound():
            return message
        case ConnectionFailed():
            return f"{message}. Is the Jupyter server running? Nothing was changed in the loop"
        case AuthenticationError():
            return (
                f"the server did not accept the token ({message}): set LOOPAT_TOKEN to a valid one"
            )
        case ChoiceRequired():
            return f"{message} (%%loop --on-choice allow, deny or wait)"
        case APIError(code="loop_archived"):
            return "this loop is archived and takes no messages: %loop new TITLE, or %loop use NAME"
        case TurnFailed():
            return f"the turn failed ({error.code}): {message}"
    return message
