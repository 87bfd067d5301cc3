"""A cell that is run again speaks to the loop it spoke to before."""

from __future__ import annotations

from collections.abc import Callable

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd

STORY = "application/vnd.loopat.transcript+json"
Open = Callable[..., FrontEnd]


def loop_of(ran: object) -> str:
    return str(ran.data[-1][STORY]["loop_id"])  # type: ignore[attr-defined]


def test_in_the_same_kernel(new_notebook: Open, client: Client):
    one = new_notebook()
    first = loop_of(one.run("%%loop --no-stream\nhello", "a"))
    assert client.loops.get(first).title != ""
    other = loop_of(one.run("%%loop --no-stream\nhello", "b"))
    assert other == first, "the next cell goes on with the notebook's loop"
    assert loop_of(one.run("%%loop --no-stream\nhello again", "a")) == first


def test_in_a_new_kernel_by_the_saved_file(new_notebook: Open, client: Client):
    one = new_notebook("kept story.ipynb")
    first = loop_of(one.run("%%loop --no-stream\nhello", "a"))
    assert client.loops.get(first).title == "kept story"
    one.save()
    again = new_notebook("kept story.ipynb")
    assert loop_of(again.run("%%loop --no-stream\nhello", "a")) == first
    assert client.loops.get(first).refresh().info.turn_count == 2


def test_a_loop_that_is_made_is_found_again(new_notebook: Open):
    one = new_notebook("made.ipynb")
    first = loop_of(one.run("%loop new made", "a"))
    assert loop_of(one.run("%loop new made", "a")) == first
    assert loop_of(one.run("%loop new made --fresh", "a")) != first
    one.save()
    second = loop_of(one.run("%loop new made", "a"))
    again = new_notebook("made.ipynb")
    assert loop_of(again.run("%loop new made", "a")) == second
    assert loop_of(again.run("%loop new another", "a")) != second


def test_what_a_person_chose_in_this_kernel_counts_more(new_notebook: Open):
    one = new_notebook()
    first = loop_of(one.run("%%loop --no-stream\nhello", "a"))
    chosen = loop_of(one.run("%loop new chosen", "b"))
    assert loop_of(one.run("%%loop --no-stream\nhello", "a")) == chosen != first


def test_an_archived_loop_is_replaced_and_that_is_said(new_notebook: Open, client: Client):
    one = new_notebook("archived.ipynb")
    first = loop_of(one.run("%%loop --no-stream\nhello", "a"))
    one.save()
    client.loops.archive(first)
    again = new_notebook("archived.ipynb")
    ran = again.run("%%loop --no-stream\nhello", "a")
    assert ran.status == "ok"
    assert loop_of(ran) != first
    assert "is archived; this is a new loop" in ran.data[0]["text/plain"].replace("&#59;", ";")


def test_a_record_that_is_no_record_is_ignored(new_notebook: Open):
    one = new_notebook("forged.ipynb")
    one.run("%%loop --no-stream\nhello", "a")
    one.outputs["a"][0]["data"][STORY] = {"loop_id": "../../me/tokens", "seq": "x"}
    one.save()
    again = new_notebook("forged.ipynb")
    assert again.run("%%loop --no-stream\nhello", "a").status == "ok"
