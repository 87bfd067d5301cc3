"""Wording that the failures of all agents share: one line that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterable

LINE_LIMIT = 500
"""Characters of a line that is quoted from a program."""
SECRET_MIN = 4
"""Characters. A shorter secret would be found where it is none."""
WORK_KEPT = "What it had done is kept: send a message to continue."
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f]+")


def one_line(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` as one short line, without terminal codes and with ``secrets`` replaced."""
    for secret in secrets:
        if len(secret) >= SECRET_MIN:
            text = text.replace(secret, "[key]")
    line = " ".join(_CONTROL.sub(" ", text).split())
    return line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}…"
