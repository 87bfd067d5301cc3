"""The failures of an agent, and the one line about each that a person can act on."""

from __future__ import annotations

from ...loops.errors import TurnFailure
from ..agents.errors import one_line


class AgentExited(Exception):
    """The agent's process does not respond any more; the message says why, without its name."""


class AgentRefused(Exception):
    """The agent responded to a request with an error, or with what is no valid response.

    ``login``: it requires authentication first.
    """

    def __init__(self, message: str, *, login: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.login = login


def not_started(agent: str, program: str, reason: str) -> TurnFailure:
    """The program could not be executed in the sandbox."""
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
