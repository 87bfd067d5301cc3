"""What goes wrong with an agent, in one line that a person can act on."""

from __future__ import annotations

import re

from ...loops.errors import TurnFailure

LINE_LIMIT = 500
KEPT = "What it had done is kept: send a message to continue."
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]+")


class AgentGone(Exception):
    """The agent does not answer any more; the message says why, without naming it."""


class AgentRefused(Exception):
    """The agent answered a request with an error, or with what is no answer to it.

    ``login``: it wants somebody to log in first.
    """

    def __init__(self, message: str, *, login: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.login = login


def one_line(text: str) -> str:
    """``text`` as one short line, terminal codes removed."""
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}…"


def not_started(agent: str, program: str, reason: str) -> TurnFailure:
    """The program could not be run in the sandbox."""
    if "No such file" in reason:
        return TurnFailure(
            f"The agent {agent!r} could not be started: there is no program {program!r} in the "
            "sandbox. Install it where the sandbox sees it, or add its folder to "
            "LoopatExtension.sandbox_read_only_paths and write its full path into config.json."
        )
    return TurnFailure(
        f"The agent {agent!r} could not be started: {one_line(reason)}. Check agents.{agent}."
        "command in config.json."
    )


def refused(agent: str, error: AgentRefused) -> TurnFailure:
    if error.login:
        return TurnFailure(
            f"The agent {agent!r} wants a login, which it cannot have inside the sandbox "
            f"({one_line(error.message)}). Let it use the loop's model instead: give it "
            "{model_url} and {model_key} in config.json."
        )
    return TurnFailure(f"The agent {agent!r} failed: {one_line(error.message)}")
