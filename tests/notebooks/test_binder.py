"""``binder/`` as repo2docker reads it. Its steps are run by ``.ci/run``, in a clean environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_its_scripts_can_be_run(name: str):
    script = BINDER / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", script], check=True)


def test_it_never_turns_the_wall_off():
    for path in BINDER.iterdir():
        assert not re.search(r"sandbox\s*=\s*['\"]?none", path.read_text()), path


def test_what_it_starts_is_started_with_its_arguments(tmp_path: Path):
    doctor = tmp_path / "loopat"
    doctor.write_text("#!/bin/sh\nexit 1\n")
    doctor.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [BINDER / "start", "sh", "-c", 'echo "$1 $LOOPAT_HOME"', "sh", "a b"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"a b {tmp_path}/.loopat\n"


def test_the_ci_runs_its_steps():
    script = (ROOT / ".ci" / "run").read_text()
    assert "binder/postBuild" in script
    assert "binder/start" in script
