"""Exit codes, and the line on stderr for each failure."""

from __future__ import annotations

import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes, which shell scripts may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_SERVER = 3
    REFUSED = 4
    UNDECIDED = 5
    INTERRUPTED = 130


MEANING = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the turn or the request failed; doctor: a loop could not run",
    ExitCode.USAGE: "the command line is wrong",
    ExitCode.NO_SERVER: "no server was found or reached",
    ExitCode.REFUSED: "credentials missing, wrong or not enough",
    ExitCode.UNDECIDED: "the turn waits for a person, and nobody here may decide",
    ExitCode.INTERRUPTED: "interrupted",
}

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANING.items()) + "."


class CommandFailed(Exception):
    """A command cannot continue; ``str()`` is one line for people."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def exit_code_of(error: Exception) -> ExitCode:
    """The exit code for an exception of the client."""
    from loopat_jupyter import client

    if isinstance(error, client.AuthenticationError | client.PermissionDeniedError):
        return ExitCode.REFUSED
    if isinstance(error, client.ConnectionFailed | client.ServerNotFound):
        return ExitCode.NO_SERVER
    if isinstance(error, client.UnexpectedResponse):
        return ExitCode.NO_SERVER
    if isinstance(error, client.ChoiceRequired):
        return ExitCode.UNDECIDED
    if isinstance(error, client.TurnInterrupted):
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED


def print_error(message: str) -> None:
    """Print ``message`` to stderr, as one line without control characters."""
    from ._terminal import one_line

    print(f"loopat: {one_line(message)}", file=sys.stderr)
