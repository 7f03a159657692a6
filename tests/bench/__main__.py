"""`python -m tests.bench`: measure the figures of the design, each as a ratio within this run.

Every file in `rows/` has a function `measure(effort)` that returns its rows; a new figure is a new
file there.
"""

from __future__ import annotations

import argparse
import importlib
import textwrap
from pathlib import Path

from tests.bench.harness import FULL, TINY, machine

ROWS = sorted(path.stem for path in (Path(__file__).parent / "rows").glob("*.py"))


def main() -> None:
    """Measure the rows that were asked for, and print them as they come."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which to measure: {', '.join(ROWS)}")
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    print(machine())
    print("Ratios are medians over rounds in which both sides are measured in turn.\n")
    for name in arguments.rows or ROWS:
        for row in importlib.import_module(f"tests.bench.rows.{name}").measure(
            TINY if arguments.tiny else FULL
        ):
            goal = "" if row.goal is None else f"goal <= {row.goal:g}"
            print(f"{row.ratio:7.2f}x  {goal:<12}  {row.verdict:<15}  {row.name}")
            print(textwrap.indent(textwrap.fill(row.detail, 88), " " * 41), flush=True)


if __name__ == "__main__":
    main()
