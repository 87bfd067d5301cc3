"""Tab on the lines of the magics."""

from __future__ import annotations

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd


def test_options_loops_modes_and_variables(notebook: FrontEnd, client: Client):
    client.loops.create("Rare Bird")
    notebook.run("shown_frame = 1")
    assert set(notebook.complete("%%loop --")) >= {"--loop", "--var", "--mode", "--attach"}
    assert notebook.complete("%%loop --no") == ["--no-stream"]
    assert "rare-bird" in notebook.complete("%%loop --loop ra")
    assert notebook.complete("%%loop --mode pl") == ["plan"]
    assert "shown_frame" in notebook.complete("%%loop --attach shown")
    assert notebook.complete("%loop st") == ["status", "stop"]
    assert "rare-bird" in notebook.complete("%loop use ")
    assert notebook.complete("%loop new --fr") == ["--fresh"]


def test_without_a_server_nothing_is_offered_and_nothing_fails(new_notebook):
    one = new_notebook()
    one.run("import os; os.environ.update(LOOPAT_URL='http://127.0.0.1:9/')")
    assert "--loop" in one.complete("%%loop --")
    assert one.complete("%%loop --loop xq") == []


def test_a_server_that_is_not_there_is_one_sentence(new_notebook):
    one = new_notebook()
    one.run("import os; os.environ.pop('JPY_PARENT_PID')")
    ran = one.run("%%loop\nhello")
    assert ran.status == "error"
    assert ran.stderr.startswith("UsageError: no loopat server found: set LOOPAT_URL")
    one.run("os.environ.update(LOOPAT_URL='http://127.0.0.1:9/', LOOPAT_TOKEN='la_' + '0' * 48)")
    ran = one.run("%%loop\nhello")
    assert "Is the Jupyter server running?" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_wrong_token_is_one_sentence(new_notebook, demo_server):
    one = new_notebook()
    for token in ("wrong", "la_" + "0" * 48):
        one.run(
            f"import os; os.environ.update(LOOPAT_URL={demo_server.url!r}, LOOPAT_TOKEN={token!r})"
        )
        ran = one.run("%%loop\nhello")
        assert ran.status == "error"
        assert "the server did not accept the token" in ran.stderr
        assert token not in ran.stderr
        assert ran.stderr.count("\n") == 1


def test_it_can_be_unloaded_and_loaded_again(new_notebook):
    one = new_notebook()
    assert one.run("%unload_ext loopat_jupyter").status == "ok"
    assert "not found" in one.run("%loop list").stderr
    assert one.run("%load_ext loopat_jupyter").status == "ok"
    assert one.run("%loop list").status == "ok"
