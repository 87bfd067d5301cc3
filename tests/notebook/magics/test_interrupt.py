"""Ctrl-C in a cell: the turn ends in the server, the output is whole, the cell says so."""

from __future__ import annotations

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd, Ran


def test_the_turn_is_interrupted_and_the_interrupt_is_raised(notebook: FrontEnd, client: Client):
    loop = client.loops.create("stopped")
    pressed = False

    def press(ran: Ran) -> None:
        nonlocal pressed
        if not pressed and "3\n" in ran.markdown:
            pressed = True
            notebook.interrupt()

    ran = notebook.run("%%loop -l stopped --var half\ncount 10000", seen=press)
    assert ran.status == "error"
    assert ran.outputs[-1]["ename"] == "KeyboardInterrupt"
    # No traceback: it would leave paths of the server's machine in the notebook.
    assert ran.outputs[-1]["traceback"] == ["KeyboardInterrupt: the cell was interrupted"]
    assert "**Interrupted**" in ran.markdown
    assert not loop.refresh().info.busy
    last = list(loop.history())[-1]
    assert last.status == "interrupted"
    # What the server has is what the cell got.
    kept = notebook.run("print(half.status); print(half.text)")
    assert kept.stdout == f"interrupted\n{last.content}\n"


def test_a_message_behind_another_turn_stays_queued(notebook: FrontEnd, client: Client):
    loop = client.loops.create("busy")
    with loop.send("count 10000") as events:
        next(events)
        pressed = False

        def press(ran: Ran) -> None:
            nonlocal pressed
            if not pressed and "queued" in ran.markdown:
                pressed = True
                notebook.interrupt()

        ran = notebook.run("%%loop -l busy\nhello", seen=press)
        assert ran.outputs[-1]["ename"] == "KeyboardInterrupt"
        assert "will run when it is its time" in ran.stdout
        assert loop.refresh().info.queue_depth == 1
        assert loop.info.current_turn is not None
        loop.interrupt()


def test_the_next_cell_runs_as_usual(notebook: FrontEnd):
    notebook.run("%loop new after")
    assert notebook.run("%%loop\nhello").status == "ok"
    ran = notebook.run("import signal; print(signal.getsignal(signal.SIGINT).__name__)")
    assert "default_int_handler" in ran.stdout or "SIG" in ran.stdout
