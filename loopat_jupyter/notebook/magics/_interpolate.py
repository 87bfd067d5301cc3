"""``--interpolate``: ``{name}`` in a message is replaced by the text of a notebook's variable.

Only a name alone is replaced: no attribute, no index, no call, no format. Anything else between
braces stays as it is written, so JSON and code need no escaping; ``{{name}}`` is a literal
``{name}``.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

from loopat_jupyter.transcript.escape import truncate_middle

VALUE_LIMIT = 20_000
"""Characters of one value; of a longer one head and tail are sent."""

_BRACED = re.compile(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")


def interpolate(text: str, names: Mapping[str, Any]) -> str:
    """``text`` with each ``{name}`` replaced by ``str`` of its value.

    Raises:
        UsageError: there is no variable of that name, or its text cannot be made.
    """

    def value(match: re.Match[str]) -> str:
        literal, name = match[1], match[2]
        if literal is not None:
            return f"{{{literal}}}"
        if keyword.iskeyword(name):
            return match[0]
        if name not in names:
            raise UsageError(
                f"--interpolate: there is no variable {name!r} (write {{{{{name}}}}} for braces)"
            )
        return truncate_middle(_text(name, names[name]), VALUE_LIMIT)

    return _BRACED.sub(value, text)


def _text(name: str, value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # of the value's own code, which may raise anything
        raise UsageError(
            f"--interpolate: {name!r} has no text ({type(error).__name__}: {error})"
        ) from None
