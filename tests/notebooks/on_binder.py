"""The quickstart as a visitor of Binder finds it.

``binder/start python -m tests.notebooks.on_binder [OPTION OF THE SERVER]``

For an environment that holds the built package and what ``binder/`` installs, nothing else. A real
server with the demo model is started, and the notebook is run in a kernel of this environment.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.support.server import JupyterServer

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def main() -> None:
    """Raises what the notebook raises."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    scratch = tempfile.TemporaryDirectory()
    with scratch, JupyterServer(Path(scratch.name), options=sys.argv[1:]) as server:
        os.environ.update(LOOPAT_URL=server.url, LOOPAT_TOKEN=server.token)
        resources = {"metadata": {"path": str(server.root)}}
        NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    assert "Hello from the sandbox" in str(notebook.cells)
    print(f"{QUICKSTART.name}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    main()
