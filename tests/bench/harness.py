"""What every benchmark row shares: ratios within one run, medians, and where they were measured.

Times on a busy machine say little, but two things that are measured in turn, round by round, are
slowed alike. So each row is a ratio: the median over the rounds of one candidate's time divided by
its baseline's in the same round.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Job = Callable[[], object]
"""One call of what is measured."""


class Effort(NamedTuple):
    """How much is measured; the tiny one only shows that everything runs."""

    rounds: int
    """How often all candidates of a row are measured in turn."""
    calls: int
    """Calls of each candidate in a round."""
    agents: tuple[int, ...]
    """Numbers of agents, where a row looks at how cost grows."""


FULL = Effort(rounds=31, calls=1_000, agents=(10, 100, 1_000, 10_000, 100_000))
TINY = Effort(rounds=3, calls=5, agents=(10, 50))


class Row(NamedTuple):
    """One figure of the design, as measured."""

    name: str
    """What is measured, and against what."""
    ratio: float
    """The median over the rounds."""
    goal: float | None
    """The most that it should be; None where the row only informs."""
    detail: str
    """The times behind the ratio, and how far the rounds were apart."""

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if self.goal is None:
            return "for information"
        return "met" if self.ratio <= self.goal else "NOT MET"


Times = Mapping[str, list[float]]
"""Seconds per call of each candidate, round by round."""


def in_turn(candidates: Mapping[str, Job], effort: Effort, *, warm_up: int = 0) -> Times:
    """Measure candidates round by round, so that a busy moment slows all of them.

    Args:
        candidates: What to measure, by name.
        effort: How many rounds, of how many calls each.
        warm_up: Calls of each before it counts, for what is only steady after a while.
    """
    for job in candidates.values():
        for _ in range(warm_up):
            job()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(effort.rounds):
        for name, job in candidates.items():
            times[name].append(_seconds_per_call(job, effort.calls))
    return times


def _seconds_per_call(job: Job, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        job()
    return (time.perf_counter() - began) / calls


def compare(
    times: Times, name: str, baseline: str, *, title: str, goal: float | None, unit: str = "us"
) -> Row:
    """Make a row of two candidates that were measured in turn."""
    ratios = [mine / other for mine, other in zip(times[name], times[baseline], strict=True)]
    low, middle, high = quartiles(ratios)
    scale = {"us": 1e6, "ms": 1e3}[unit]
    detail = (
        f"{statistics.median(times[name]) * scale:,.2f} {unit} against "
        f"{statistics.median(times[baseline]) * scale:,.2f} {unit}; "
        f"middle half of the rounds {low:.2f} to {high:.2f}"
    )
    return Row(title, middle, goal, detail)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def machine() -> str:
    """Name the machine that ran this."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    system = f"{platform.system()} {platform.machine()}"
    return f"{python} on {system}, {os.cpu_count()} CPUs ({_processor()}), load {load}"


def _processor() -> str:
    """Return the processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a device, not a file
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unnamed"
