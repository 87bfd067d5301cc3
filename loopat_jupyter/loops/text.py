"""Text as it can be stored and sent: no NUL, no half character.

Models and programs produce lone surrogates, for instance when a provider cuts its JSON between the
two escapes of one character; SQLite and UTF-8 take neither those nor, in many places, NUL.
"""

from __future__ import annotations

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitize_text(text: str) -> str:
    """``text`` with pairs of surrogates joined, and lone ones and NUL replaced."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", _REPLACEMENT)
