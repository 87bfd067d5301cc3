"""What ``--attach`` gives the agent, and what it refuses."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from IPython.core.error import UsageError

from loopat_jupyter.client import Client
from loopat_jupyter.notebook.magics import _attach
from loopat_jupyter.notebook.magics._attach import attach
from tests.support.frontend import FrontEnd

mpl.use("agg")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"city": ["Bern", "Basel", None], "people": [134_000, 175_000, 1]})


def test_a_frame_is_summarised(frame: pd.DataFrame):
    text = attach("df", {"df": frame}).text
    assert "3 rows, 2 columns" in text
    assert "1 missing" in text
    assert "people: int64, 0 missing" in text
    assert "0,Bern,134000" in text


def test_a_summary_is_bounded_whatever_the_frame():
    wide = pd.DataFrame(np.zeros((5, 3000)), columns=["c" * 500 + str(n) for n in range(3000)])
    wide.loc[0, wide.columns[0]] = np.nan
    assert len(attach("df", {"df": wide}).text) < _attach.TEXT_LIMIT + 500
    long = pd.DataFrame({"text": ["x" * 1_000_000] * 3})
    assert len(attach("df", {"df": long}).text) < _attach.TEXT_LIMIT + 500
    assert "0 rows, 0 columns" in attach("df", {"df": pd.DataFrame()}).text


def test_doubled_column_names_are_no_trouble():
    twice = pd.DataFrame([[1, "a"]], columns=["same", "same"])
    assert attach("df", {"df": twice}).text.count("same: ") == 2


def test_a_frame_as_a_file(frame: pd.DataFrame):
    made = attach("df:csv", {"df": frame})
    assert made.file is not None
    name, content = made.file
    assert name == "df.csv"
    again = pd.read_csv(io.BytesIO(content), index_col=0)
    pd.testing.assert_frame_equal(again, frame)


def test_parquet_says_what_it_needs(frame: pd.DataFrame):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="needs pyarrow"):
            attach("df:parquet", {"df": frame})
    else:
        made = attach("df:parquet", {"df": frame})
        assert made.file is not None
        assert made.file[1].startswith(b"PAR1")


def test_a_figure_is_a_picture():
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2])
    for value in (figure, axes):
        made = attach("plot", {"plot": value})
        assert made.file is not None
        assert made.file[0] == "plot.png"
        assert made.file[1].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, 2, 3], "[1, 2, 3]"),
        (list(range(10**6)), "..."),
        ("a\x1b[31mb", "a␛[31mb"),
        (np.arange(10**6), "shape: (1000000,)"),
    ],
)
def test_anything_else_is_text_of_a_bounded_length(value: Any, shown: str):
    text = attach("it", {"it": value}).text
    assert shown in text
    assert len(text) < _attach.TEXT_LIMIT + 500


def test_text_cannot_leave_its_fence():
    text = attach("it", {"it": "```\n# out\n````"}).text
    assert text.count("`````") == 2


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("gone", "no variable 'gone'"),
        ("df.columns", "no variable"),
        ("df:exe", "is none of text, csv, parquet, png"),
        ("number:csv", "is no pandas DataFrame"),
        ("number:png", "is no figure"),
    ],
)
def test_what_cannot_be_attached_is_refused_in_words(frame: pd.DataFrame, spec: str, why: str):
    with pytest.raises(UsageError, match=why):
        attach(spec, {"df": frame, "number": 3})


def test_a_value_that_breaks_does_not_break_the_cell():
    assert "Broken" in attach("it", {"it": Broken()}).text


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, frame: pd.DataFrame):
    monkeypatch.setattr(_attach, "FILE_LIMIT", 10)
    with pytest.raises(UsageError, match="attach a part of it"):
        attach("df:csv", {"df": frame})


def test_the_agent_finds_the_file_in_its_workdir(notebook: FrontEnd, client: Client):
    notebook.run("%loop new attached")
    notebook.run("import pandas as pd; df = pd.DataFrame({'a': [1, 2]})")
    ran = notebook.run("%%loop --attach df:csv --attach df\n!cat df.csv #")
    assert ran.status == "ok", ran.stderr
    loop = next(one for one in client.loops.list() if one.title == "attached")
    assert loop.get("df.csv") == b",a\n0,1\n1,2\n"
    (sent, *_) = [message.content for message in loop.history()]
    assert "`df.csv` is in your working directory (11 bytes)" in sent
    assert "2 rows, 1 columns" in sent
