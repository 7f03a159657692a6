"""The benchmarks run: a tiny round of each, without a word on how long anything took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = sorted(path.stem for path in (ROOT / "tests" / "bench" / "rows").glob("*.py"))


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks as `make bench` does."""
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("row", ROWS)
def test_every_row_runs(row: str) -> None:
    """Each file of rows measures something, and says what, how much, and whether that is well."""
    run = bench("--tiny", row)
    assert run.returncode == 0, run.stderr
    if "is not installed" in run.stderr and not os.environ.get("CI"):
        pytest.skip(run.stderr)
    figures = [
        line for line in run.stdout.splitlines() if line[:7].strip().replace(".", "").isdigit()
    ]
    assert figures
    for figure in figures:
        assert float(figure.split("x")[0]) > 0
        assert any(word in figure for word in ("met", "NOT MET", "for information"))


def test_an_unknown_row_is_refused() -> None:
    """A row that does not exist is named, and so are those that do."""
    run = bench("--tiny", "memory_hold")
    assert run.returncode == 2
    assert "there is no row memory_hold" in run.stderr.replace("'", "")
    assert all(row in run.stderr for row in ROWS)


def test_what_is_measured_is_named() -> None:
    """The first line names interpreter, system and processors: a ratio means nothing without."""
    first = bench("--tiny", "imports").stdout.splitlines()[0]
    assert "Python" in first
    assert "CPUs" in first
