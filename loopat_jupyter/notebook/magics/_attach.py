"""A variable of the notebook, for the agent: as text in its message, or as a file beside it.

``NAME`` alone chooses by the value: a summary of a data frame or of an array, a picture of a
figure, the ``repr`` of anything else. ``NAME:csv``, ``:parquet``, ``:png`` and ``:text`` say which.
Everything is bounded: what is sent to a model costs money, and a frame may have a billion cells.

Values are recognised by what they can do and by where their class comes from, so nothing is
imported that the notebook has not imported itself.
"""

from __future__ import annotations

import io
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from loopat_jupyter.transcript.escape import clean, fence, truncate_middle

TEXT_LIMIT = 8_000
"""Characters of one value's text in the message."""
ROWS, COLUMNS = 10, 40
FILE_ROWS = 1_000_000
FILE_LIMIT = 32 * 1024 * 1024
"""Bytes of one file."""
KINDS = ("text", "csv", "parquet", "png")


@dataclass(frozen=True, slots=True)
class Attachment:
    """``text`` is put into the message; ``file`` is the name and content of a file beside it."""

    text: str
    file: tuple[str, bytes] | None = None


def attach(spec: str, names: Mapping[str, Any]) -> Attachment:
    """The text and the file for ``--attach SPEC``.

    Raises:
        UsageError: no such variable, no such kind, or the value cannot be converted to it.
    """
    name, _, how = spec.partition(":")
    if not name.isidentifier() or name not in names:
        raise UsageError(f"--attach: there is no variable {name!r}")
    if how and how not in KINDS:
        raise UsageError(f"--attach {spec}: {how!r} is none of {', '.join(KINDS)}")
    value = names[name]
    how = how or ("png" if _figure(value) is not None else "text")
    try:
        return _CONVERTERS[how](name, value)
    except UsageError:
        raise
    except Exception as error:  # of the value's own code, which may raise anything
        message = truncate_middle(f"{type(error).__name__}: {error}", 300)
        raise UsageError(f"--attach {spec}: {message}") from None


def _as_text(name: str, value: Any) -> Attachment:
    text = _summary(value)
    block = fence(truncate_middle(text, TEXT_LIMIT))
    return Attachment(f"`{name}` ({type(value).__name__}):\n\n{block}")


def _as_csv(name: str, value: Any) -> Attachment:
    frame = _frame(name, value)
    return _as_file(f"{name}.csv", frame.head(FILE_ROWS).to_csv().encode(), frame)


def _as_parquet(name: str, value: Any) -> Attachment:
    frame = _frame(name, value)
    try:
        content = frame.head(FILE_ROWS).to_parquet()
    except ImportError:
        raise UsageError(
            f"--attach {name}:parquet needs pyarrow in this kernel; {name}:csv needs nothing"
        ) from None
    return _as_file(f"{name}.parquet", content, frame)


def _as_png(name: str, value: Any) -> Attachment:
    figure = _figure(value)
    if figure is None:
        raise UsageError(f"--attach {name}:png: a {type(value).__name__} is no figure")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return _as_file(f"{name}.png", buffer.getvalue(), value)


_CONVERTERS: dict[str, Callable[[str, Any], Attachment]] = {
    "text": _as_text,
    "csv": _as_csv,
    "parquet": _as_parquet,
    "png": _as_png,
}


def _as_file(filename: str, content: bytes, value: Any) -> Attachment:
    if len(content) > FILE_LIMIT:
        raise UsageError(
            f"--attach: {filename} would have {len(content):,} bytes, at most {FILE_LIMIT:,} go: "
            "attach a part of it"
        )
    description = f"`{filename}` is in your working directory ({len(content):,} bytes"
    if _is_frame(value):
        rows = len(value)
        description += f", {min(rows, FILE_ROWS):,} of {rows:,} rows" if rows > FILE_ROWS else ""
        inside = fence(truncate_middle(_summary(value), TEXT_LIMIT))
        return Attachment(f"{description}):\n\n{inside}", (filename, content))
    return Attachment(f"{description}).", (filename, content))


def _summary(value: Any) -> str:
    if _is_frame(value):
        return _frame_summary(value)
    if isinstance(value, str):
        return clean(value)
    if type(value).__module__.split(".")[0] in {"numpy", "pandas", "polars"}:
        about = [f"{n}: {getattr(value, n)}" for n in ("shape", "dtype") if hasattr(value, n)]
        return clean("\n".join([*about, str(value)]))
    return clean(_SHORT_REPR.repr(value))


_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxstring = _SHORT_REPR.maxother = 2000
_SHORT_REPR.maxlist = _SHORT_REPR.maxtuple = _SHORT_REPR.maxset = _SHORT_REPR.maxdict = 50


def _frame_summary(frame: Any) -> str:
    """Shape, columns with their types and gaps, and the first rows."""
    rows, columns = frame.shape
    shown = frame.iloc[:, :COLUMNS]
    gaps = shown.isna().sum()
    about = [
        f"{label!s:.60}: {shown.dtypes.iloc[at]}, {int(gaps.iloc[at])} missing"
        for at, label in enumerate(shown.columns)
    ]
    if columns > COLUMNS:
        about.append(f"… {columns - COLUMNS} more columns")
    head = shown.head(ROWS).to_csv()
    lines = [f"{rows} rows, {columns} columns", *about, "", f"first {min(rows, ROWS)} rows:", head]
    return clean("\n".join(lines))


def _is_frame(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "DataFrame" and kind.__module__.split(".")[0] == "pandas"


def _frame(name: str, value: Any) -> Any:
    if not _is_frame(value):
        raise UsageError(f"--attach {name}: a {type(value).__name__} is no pandas DataFrame")
    return value


def _figure(value: Any) -> Any:
    """The matplotlib figure that ``value`` is, or is drawn on."""
    figure = value if hasattr(value, "savefig") else getattr(value, "figure", None)
    known = type(figure).__module__.split(".")[0] == "matplotlib"
    return figure if known and hasattr(figure, "savefig") else None
