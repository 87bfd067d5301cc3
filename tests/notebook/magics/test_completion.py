"""Tab on the lines of the magics."""

from __future__ import annotations

import pytest

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd
from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(5)


def test_options_loops_modes_and_variables(notebook: FrontEnd, client: Client):
    client.loops.create("Rare Bird")
    notebook.run("shown_frame = 1")
    assert set(notebook.complete("%%loop --")) >= {"--loop", "--var", "--mode", "--attach"}
    assert "--no-stream" in notebook.complete("%%loop --no")
    assert "rare-bird" in notebook.complete("%%loop --loop ra")
    assert "plan" in notebook.complete("%%loop --mode pl")
    assert "shown_frame" in notebook.complete("%%loop --attach shown")
    assert {"status", "stop"} <= set(notebook.complete("%loop st"))
    assert "rare-bird" in notebook.complete("%loop use ")
    assert "--fresh" in notebook.complete("%loop new --fr")


def test_without_a_server_nothing_is_offered_and_nothing_fails(notebook: FrontEnd):
    notebook.run("import os; os.environ.update(LOOPAT_URL='http://127.0.0.1:9/')")
    assert "--loop" in notebook.complete("%%loop --")
    assert not [name for name in notebook.complete("%%loop --loop rar") if name == "rare-bird"]


def test_a_server_that_is_not_there_is_one_sentence(notebook: FrontEnd):
    notebook.run("import os; parent = os.environ.pop('JPY_PARENT_PID')")
    ran = notebook.run("%%loop\nhello")
    assert ran.status == "error"
    assert ran.stderr.startswith("UsageError: no loopat server found: set LOOPAT_URL")
    notebook.run(
        "os.environ.update(LOOPAT_URL='http://127.0.0.1:9/', LOOPAT_TOKEN='la_' + '0' * 48)"
    )
    ran = notebook.run("%%loop\nhello")
    notebook.run("os.environ['JPY_PARENT_PID'] = parent")
    assert "Is the Jupyter server running?" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_wrong_token_is_one_sentence(notebook: FrontEnd, demo_server: JupyterServer):
    for token in ("wrong", "la_" + "0" * 48):
        notebook.run(f"os.environ.update(LOOPAT_URL={demo_server.url!r}, LOOPAT_TOKEN={token!r})")
        ran = notebook.run("%%loop\nhello")
        assert ran.status == "error"
        assert "the server did not accept the token" in ran.stderr
        assert token not in ran.stderr
        assert ran.stderr.count("\n") == 1


def test_it_can_be_unloaded_and_loaded_again(notebook: FrontEnd):
    assert notebook.run("%unload_ext loopat_jupyter").status == "ok"
    assert "not found" in notebook.run("%loop list").stderr
    assert notebook.run("%load_ext loopat_jupyter").status == "ok"
    assert notebook.run("%loop list").status == "ok"
