"""How the documentation is built as a site: ``sphinx-build -W docs docs/_build``.

The pages are Markdown (MyST), written so that they read the same in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

project = "loopat for Jupyter"
author = "The loopat developers"
release = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # the anchors that the repository's own viewer gives to headings

html_theme = "pydata_sphinx_theme"
html_title = project
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_copy_source = False

# A link to another site is looked at by `sphinx-build -b linkcheck`, which needs the network.
linkcheck_ignore = [r"http://localhost.*", r"http://127\.0\.0\.1.*"]
