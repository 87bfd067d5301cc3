"""The benchmarks run as a program, report as documented, and judge by the right budgets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.budgets import BUDGETS
from benchmarks.measures import Measure, quantile

pytestmark = pytest.mark.slow(5)

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "benchmarks" / "README.md"

DESIGNED = {
    "latency.p50": (1.0, "ms"),
    "latency.p99": (10.0, "ms"),
    "gateway.first.p50": (1.0, "ms"),
    "gateway.delta.p50": (1.0, "ms"),
    "post.ack.p99": (10.0, "ms"),
    "conversation.ratio": (1.5, ""),
    "resume": (200.0, "ms"),
    "sandbox.ready.p50": (25.0, "ms"),
    "restart": (2.0, "s"),
    "list.p95": (20.0, "ms"),
    "memory.stream": (20.0, "KB"),
    "cycles.processes": (0.0, ""),
    "cycles.bytes": (0.0, "B"),
}
FIELDS: dict[str, type | tuple[type, ...]] = {
    "benchmark": str,
    "name": str,
    "value": (int, float),
    "unit": str,
    "samples": int,
    "baseline": (int, float, type(None)),
    "ratio": (int, float, type(None)),
    "budget": (int, float, type(None)),
    "ok": (bool, type(None)),
    "note": str,
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """One small benchmark, run as a program: what it printed, and its JSON."""
    path = tmp_path_factory.mktemp("benchmarks") / "report.json"
    ended = run("create", "--quick", "--json", str(path))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads(path.read_text())


def test_the_json_has_the_documented_shape(report: tuple[str, dict[str, Any]]) -> None:
    data = report[1]
    assert data["format"] == 1
    assert data["quick"] is True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["when"])
    assert data["machine"].keys() == {"cpus", "python", "system", "load_before"}
    assert data["measures"]
    for measure in data["measures"]:
        assert measure.keys() == FIELDS.keys()
        for name, kind in FIELDS.items():
            assert isinstance(measure[name], kind), name


def test_the_table_shows_every_measure(report: tuple[str, dict[str, Any]]) -> None:
    printed, data = report
    for measure in data["measures"]:
        assert measure["name"].split()[-1] in printed


def test_an_unknown_name_is_a_wrong_command_line() -> None:
    ended = run("nothing-like-this")
    assert ended.returncode == 2
    assert "nothing-like-this" in ended.stderr


def test_the_budgets_are_those_of_the_design() -> None:
    assert {name: (budget.limit, budget.unit) for name, budget in BUDGETS.items()} == DESIGNED


def test_the_readme_names_every_benchmark_and_budget() -> None:
    text = README.read_text()
    for name in BENCHMARKS:
        assert f"| `{name}` |" in text
    for budget in BUDGETS.values():
        assert budget.what in text


def test_a_measure_is_judged_by_its_budget() -> None:
    assert Measure("resume", "replay", 200.0, "ms", budget="resume").ok is True
    assert Measure("resume", "replay", 200.1, "ms", budget="resume").ok is False
    assert Measure("resume", "replay", 1e9, "ms").ok is None
    assert Measure("post", "ack", 3.0, "ms", baseline=2.0).ratio == 1.5


def test_a_quantile_is_a_sample_that_the_share_does_not_exceed() -> None:
    samples = [float(value) for value in range(1, 101)]
    assert quantile(samples, 0.5) == 50
    assert quantile(samples, 0.99) == 99
    assert quantile([7.0], 0.99) == 7
