"""``{name}`` in a message, on request: values of the notebook, and nothing but their text.

What counts is a name alone: no attribute, no index, no call, no format. Anything else between
braces stays as it is written, so JSON and code need no care; ``{{name}}`` is ``{name}`` itself.
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
    except Exception as error:  # a value's own code: whatever it raises is the person's to know
        raise UsageError(
            f"--interpolate: {name!r} has no text ({type(error).__name__}: {error})"
        ) from None
