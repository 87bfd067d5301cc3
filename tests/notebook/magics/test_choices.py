"""The agent asks while a cell runs: of a person who is there, or by a policy where nobody is."""

from __future__ import annotations

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd, Ran

TRANSCRIPT = "application/vnd.loopat.transcript+json"
WIDGET = "application/vnd.jupyter.widget-view+json"


def test_nobody_is_there_so_the_cell_fails_and_the_turn_waits(notebook: FrontEnd, client: Client):
    notebook.run("%loop new unattended")
    ran = notebook.run("%%loop --mode default\n!echo no")
    assert ran.status == "error"
    assert "waits for a person to decide" in ran.stderr
    loop = client.loops.get(ran.data[0][TRANSCRIPT]["loop_id"])
    assert loop.pending_choice() is not None


def test_a_message_is_not_put_behind_a_choice_that_nobody_answers(
    notebook: FrontEnd, client: Client
):
    loop = client.loops.create("blocked")
    notebook.run("%%loop -l blocked --mode default\n!echo no")
    ran = notebook.run("%%loop -l blocked\nhello")
    assert "Nothing was sent" in ran.stderr
    assert loop.refresh().info.turn_count == 1
    assert "interrupted" in notebook.run("%loop stop blocked").markdown
    assert notebook.run("%%loop -l blocked\nhello").status == "ok"


def test_policies_that_are_named(notebook: FrontEnd):
    notebook.run("%loop new named")
    allowed = notebook.run("%%loop --mode default --on-choice allow\n!echo yes")
    assert "**Allowed** by" in allowed.markdown
    denied = notebook.run("%%loop --mode default --on-choice deny\n!echo yes")
    assert denied.status == "ok"
    assert "**Denied** by" in denied.markdown
    assert "You denied it" in denied.markdown


def test_the_prompt_is_answered_at_the_server_while_the_cell_runs(
    notebook: FrontEnd, client: Client
):
    loop = client.loops.create("attended")

    def answer(ran: Ran) -> None:
        """What the browser half of the prompt does once it is on the page."""
        shown = [data for data in ran.data if WIDGET in data]
        if shown and (choice := loop.pending_choice()) is not None:
            choice.allow()

    source = "%%loop -l attended --mode default\n!echo yes"
    ran = notebook.run(source, attended=True, seen=answer)
    assert ran.status == "ok"
    assert "**Allowed** by" in ran.markdown
    # No dead widget is left in the file.
    assert not [data for data in ran.data if WIDGET in data]


def test_a_question_is_asked_by_text_where_that_is_wanted(notebook: FrontEnd):
    notebook.run("%loop new asked")
    ran = notebook.run(
        "%%loop --on-choice ask\nask Tea or coffee? | Tea | Coffee",
        attended=True,
        answer=lambda prompt: "2",
    )
    assert ran.status == "ok"
    assert "1. Tea\n  2. Coffee" in ran.stdout
    assert "Coffee" in ran.markdown.split("Thank you")[1]


def test_ctrl_c_while_a_person_is_asked_interrupts_the_turn(notebook: FrontEnd, client: Client):
    loop = client.loops.create("hesitant")

    def hesitate(prompt: str) -> None:
        assert "[y/N]" in prompt
        notebook.interrupt()

    ran = notebook.run(
        "%%loop -l hesitant --mode default --on-choice ask\n!echo yes",
        attended=True,
        answer=hesitate,
    )
    assert ran.status == "error"
    assert ran.outputs[-1]["ename"] == "KeyboardInterrupt"
    assert "**Interrupted**" in ran.markdown
    assert not loop.refresh().info.busy
