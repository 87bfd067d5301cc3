"""What podman containers an earlier server of this home may have left running. Blocks.

Normally there are none: a container ends with its channel, and that with its server. A stopped
one is kept for its loop. A home that never had a container costs nothing.
"""

from __future__ import annotations

from pathlib import Path

from loopat_jupyter.sandboxes.podman.cli import Podman, PodmanFailed, find_podman
from loopat_jupyter.sandboxes.podman.containers import FOLDER, Containers


def reap_containers(run_dir: Path) -> list[str]:
    """Stop this home's running containers; their names."""
    program = find_podman()
    if program is None or not (run_dir / FOLDER).is_dir():
        return []
    try:
        return Containers(Podman(program), run_dir).stop_leftovers()
    except PodmanFailed:
        return []
