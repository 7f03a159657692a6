"""`import tbcontracts` in a fresh interpreter, against one that starts and does nothing."""

from __future__ import annotations

import subprocess
import sys

from tests.bench.harness import Effort, Job, Row, compare, in_turn

STARTS_MAX = 3
"""Starts in each round: a start takes as long as ten thousand holds."""


def start(code: str) -> Job:
    """Return the start of an interpreter that runs `code` and ends."""

    def job() -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    return job


def measure(effort: Effort) -> list[Row]:
    """Measure whole processes, from start to end."""
    jobs = {"bare": start("pass"), "import": start("import tbcontracts")}
    few = effort._replace(calls=min(effort.calls, STARTS_MAX))
    times = in_turn(jobs, few, warm_up=1)
    title = "process that does `import tbcontracts`, against a bare interpreter start"
    return [compare(times, "import", "bare", title=title, goal=3, unit="ms")]
