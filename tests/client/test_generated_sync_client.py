"""``client/_sync`` is what ``client/_async`` gives: nobody edits the generated files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_client_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/generate_sync_client.py", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_generated_file_has_a_trace_of_asyncio():
    generated = [
        path
        for path in (ROOT / "loopat_jupyter" / "client" / "_sync").glob("*.py")
        if path.read_text().startswith("# Generated from ")
    ]
    assert len(generated) == 6
    for path in generated:
        _, _, text = path.read_text().partition("\n")
        for word in ("async", "await", "Async", "aclose", "aread", "anext"):
            assert word not in text, f"{path.name}: {word}"
