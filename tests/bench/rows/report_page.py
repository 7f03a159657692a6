"""The report page of a large journal: how long it takes to make, how large it is, how it opens."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.harness import FULL, Effort, Row
from tests.core.report.books import large
from tests.core.report.chromium import Chromium, find_chromium

from tbcontracts.report.html import page
from tbcontracts.report.view import view_of

BYTES_MAX = 5_000_000
OPEN_MAX_S = 3.0
_LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
_ROUNDS_MAX = 7


def measure(effort: Effort) -> list[Row]:
    """Make the page of 100,000 entries and open it, some times over."""
    entries = 100_000 if effort.rounds >= FULL.rounds else 2_000
    rounds = min(effort.rounds, _ROUNDS_MAX)
    history = large(entries)
    made, walked, text = [], [], ""
    for _ in range(rounds):
        began = time.perf_counter()
        for entry in history.journal:
            entry.as_dict()
        walked.append(time.perf_counter() - began)
        began = time.perf_counter()
        text = page(view_of(history.statement, history.journal, "bench"))
        made.append(time.perf_counter() - began)
    size = len(text.encode())
    ratio = statistics.median(mine / other for mine, other in zip(made, walked, strict=True))
    of = f"report of {len(history.journal):,} entries"
    times = f"{statistics.median(made):.2f} s to make, {statistics.median(walked):.2f} s to walk"
    megabytes = f"{size / 1e6:.2f} MB"
    rows = [
        Row(f"{of}: its size, against 5 MB", size / BYTES_MAX, 1, megabytes),
        Row(f"{of}: making it, against its entries as plain data", ratio, None, times),
    ]
    executable = find_chromium()
    if executable is not None:
        opened = _opened(text, executable, rounds)
        ratio = statistics.median(opened) / OPEN_MAX_S
        said = f"{statistics.median(opened):.2f} s, {min(opened):.2f} to {max(opened):.2f}"
        rows.append(Row(f"{of}: opening it in Chromium, against 3 s", ratio, 1, said))
    return rows


def _opened(text: str, executable: str, rounds: int) -> list[float]:
    """Return how long the browser says that loading took, each time in a new window."""
    browser = Chromium(executable)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.html"
            path.write_text(text, encoding="utf-8")
            return [
                float(browser.visit(path, lambda opened: opened.evaluate(_LOADED)).found)
                for _ in range(rounds)
            ]
    finally:
        browser.close()
