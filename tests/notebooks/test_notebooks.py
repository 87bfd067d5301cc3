"""Every notebook of the repository runs as it is, with the demo model, and as a program runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from tests.support.server import JupyterServer

pytestmark = pytest.mark.slow(8)

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = ["choices", "fan_out", "quickstart", "rest", "transcript"]
STORY = "application/vnd.loopat.transcript+json"
TIMEOUT = 120


@pytest.fixture(scope="module")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with JupyterServer(tmp_path_factory.mktemp("notebooks")) as running:
        yield running


@pytest.fixture
def environment(demo_server: JupyterServer, monkeypatch: pytest.MonkeyPatch) -> JupyterServer:
    """What tells a program, and the kernels it starts, where the server is."""
    monkeypatch.setenv("LOOPAT_URL", demo_server.url)
    monkeypatch.setenv("LOOPAT_TOKEN", demo_server.token)
    for name in ("JPY_PARENT_PID", "JUPYTERHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return demo_server


def executed(name: str, directory: Path) -> Any:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(directory)}}
    NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources).execute()
    return notebook


def shown(notebook: Any) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


def test_the_notebooks_are_these_and_hold_no_outputs():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES
    for name in NAMES:
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert notebook.cells[0].source.startswith("# ")
        for cell in notebook.cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


def test_quickstart_runs_and_every_export_has_the_conversation(
    environment: JupyterServer, tmp_path: Path
):
    notebook = executed("quickstart", tmp_path)
    text = shown(notebook)
    assert "Hello from the sandbox" in text
    assert "from-me.txt" in text
    assert text.count(STORY) >= 3
    for secret in (environment.token, f":{environment.port}", str(environment.directory)):
        assert secret not in text

    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "Hello from the sandbox" in page
    assert "Transcript of <b>from Python</b>" in page
    written, _ = MarkdownExporter().from_notebook_node(notebook)
    assert "Hello from the sandbox" in written
    assert "Transcript of <b>from Python</b>" in written


@pytest.mark.usefixtures("environment")
def test_choices_never_hang_where_nobody_is_and_run_again(tmp_path: Path):
    for _ in range(2):  # the second time there is a loop of that name already
        text = shown(executed("choices", tmp_path))
        assert "the turn waits for a person to decide" in text
        assert "!touch new.txt -> denied" in text
        assert "!ls -> allowed" in text
        assert "its running turn is interrupted" in text
        assert "loops are called" not in text


@pytest.mark.usefixtures("environment")
def test_rest_with_httpx_and_curl(tmp_path: Path):
    text = shown(executed("rest", tmp_path))
    assert "loop_not_found" in text
    assert re.search(r"event: done", text)


@pytest.mark.usefixtures("environment")
def test_a_transcript_is_exported(tmp_path: Path):
    text = shown(executed("transcript", tmp_path))
    assert "sort -r numbers.csv" in text
    assert "(True, True)" in text
    assert (tmp_path / "transcript_of_a_loop.ipynb").exists()


@pytest.mark.usefixtures("environment")
def test_papermill_runs_the_fan_out_with_its_parameters(tmp_path: Path):
    done = papermill.execute_notebook(
        NOTEBOOKS / "fan_out.ipynb",
        tmp_path / "done.ipynb",
        parameters={"loops_at_once": 2},
        cwd=tmp_path,
        kernel_name="python3",
        progress_bar=False,
    )
    text = shown(done)
    for expected in ("squares", "1024", "broken", "False"):
        assert expected in text
