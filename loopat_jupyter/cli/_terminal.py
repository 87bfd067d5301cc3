"""The only way for foreign text to a terminal.

A terminal obeys control characters: escape sequences recolour, retitle, overwrite what a person
is about to confirm, even answer on their behalf; direction marks show a command in another order
than it runs. :func:`plain` makes every one of them visible instead of effective. What is printed
is otherwise the text itself.
"""

from __future__ import annotations

import sys

_CONTROL_PICTURES = 0x2400
_KEPT = {"\n", "\t"}
_REORDERING = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]


def _table() -> dict[int, str]:
    table = {c: chr(_CONTROL_PICTURES + c) for c in range(0x20) if chr(c) not in _KEPT}
    table[0x7F] = "\u2421"
    table |= {c: f"<{c:02X}>" for c in range(0x80, 0xA0)}
    table |= {c: f"<U+{c:04X}>" for c in _REORDERING}
    table |= {c: f"<U+{c:04X}>" for c in (0x2028, 0x2029, 0xFEFF)}
    return table


_TABLE = _table()


def plain(text: str) -> str:
    """``text`` without any power over the terminal; newlines and tabs stay."""
    shown = text.translate(_TABLE)
    return shown.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str, width: int | None = None) -> str:
    """``text`` on one line, cut to ``width`` characters."""
    flat = " ".join(plain(text).split())
    return flat if width is None or len(flat) <= width else flat[: max(0, width - 1)] + "…"


def is_interactive() -> bool:
    """Is there a person at both ends?"""
    return sys.stdin.isatty() and sys.stdout.isatty()


def tolerate_narrow_encodings() -> None:
    """What the terminal's encoding lacks is printed as ``?`` instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
