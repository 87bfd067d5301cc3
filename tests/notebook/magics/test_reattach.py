"""A cell that is run again uses the loop it used before."""

from __future__ import annotations

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd, Ran
from tests.support.server import JupyterServer

from .conftest import forget

TRANSCRIPT = "application/vnd.loopat.transcript+json"
HELLO = "%%loop --no-stream\nhello"


def loop_of(ran: Ran) -> str:
    assert ran.status == "ok", ran.stderr
    return str(ran.data[-1][TRANSCRIPT]["loop_id"])


def test_in_the_same_kernel(notebook: FrontEnd, client: Client):
    first = loop_of(notebook.run(HELLO, "same-a"))
    assert client.loops.get(first).title == "notebook"
    other = loop_of(notebook.run(HELLO, "same-b"))
    assert other == first, "the next cell goes on with the notebook's loop"
    assert loop_of(notebook.run(HELLO, "same-a")) == first


def test_in_a_new_kernel_by_the_saved_file(demo_server: JupyterServer, client: Client):
    first, path = "", "kept transcript.ipynb"
    for _ in range(2):
        with FrontEnd(demo_server, path) as notebook:
            assert notebook.run("%load_ext loopat_jupyter").status == "ok"
            found = loop_of(notebook.run(HELLO, "a"))
            notebook.save()
            first = first or found
            assert found == first
    assert client.loops.get(first).title == "kept transcript"
    assert client.loops.get(first).info.turn_count == 2


def test_a_loop_that_was_made_is_found_again(notebook: FrontEnd):
    make = "%loop new made"
    first = loop_of(notebook.run(make, "made"))
    assert loop_of(notebook.run(make, "made")) == first
    second = loop_of(notebook.run(f"{make} --fresh", "made"))
    assert second != first
    notebook.save()
    forget(notebook)
    assert loop_of(notebook.run(make, "made")) == second
    assert loop_of(notebook.run("%loop new another", "made")) != second


def test_what_a_person_chose_in_this_kernel_counts_more(notebook: FrontEnd):
    first = loop_of(notebook.run(HELLO, "more-a"))
    chosen = loop_of(notebook.run("%loop new chosen", "more-b"))
    assert loop_of(notebook.run(HELLO, "more-a")) == chosen != first


def test_a_chat_shows_the_loop_that_the_cells_use(notebook: FrontEnd, client: Client):
    used = loop_of(notebook.run(HELLO, "chat-a"))
    make = "from loopat_jupyter import LoopChat; chat = LoopChat({}); chat"
    assert loop_of(notebook.run(make.format(""), "chat-b")) == used
    own = loop_of(notebook.run(make.format("title='its own'"), "chat-c"))
    assert client.loops.get(own).title == "its own"
    client.loops.archive(used)
    assert loop_of(notebook.run(make.format(""), "chat-d")) not in {used, own}
    forget(notebook)
    assert loop_of(notebook.run(make.format(""), "chat-c")) not in {used, own}


def test_an_archived_loop_is_replaced_and_that_is_said(notebook: FrontEnd, client: Client):
    first = loop_of(notebook.run(HELLO, "archived"))
    notebook.save()
    client.loops.archive(first)
    forget(notebook)
    ran = notebook.run(HELLO, "archived")
    assert loop_of(ran) != first
    assert "is archived; this is a new loop" in ran.data[0]["text/plain"]


def test_a_record_that_is_no_record_is_ignored(notebook: FrontEnd):
    notebook.run(HELLO, "forged")
    notebook.outputs["forged"][0]["data"][TRANSCRIPT] = {"loop_id": "../../me/tokens", "seq": "x"}
    notebook.save()
    forget(notebook)
    assert notebook.run(HELLO, "forged").status == "ok"
