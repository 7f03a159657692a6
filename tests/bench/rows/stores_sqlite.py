"""SQLite, safe in a power cut: what 16 callers of one process pay, against a bare transaction.

The floor is one connection that changes one number in a durable transaction, again and again: what
a counter in a file costs. A hold writes more, but callers that come together share one write.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from tests.bench.harness import Effort, Row, compare

from tbcontracts import BudgetContract
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.commands import Open, Reserve
from tbcontracts.stores import Store, open_store

CALLERS = 16


class Counter:
    """One number in a file."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE counter (id INTEGER PRIMARY KEY, held INTEGER)")
        self._db.execute("INSERT INTO counter VALUES (1, 0)")

    def add(self, calls: int) -> float:
        """Change it so many times; return the seconds of each."""
        began = time.perf_counter()
        for _ in range(calls):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE counter SET held = held + 10 WHERE id = 1")
            self._db.execute("COMMIT")
        return (time.perf_counter() - began) / calls

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class Callers:
    """Threads that place holds on one set of books."""

    def __init__(self, store: Store, callers: int) -> None:
        self._store = store
        self._callers = callers
        self._numbers = itertools.count()
        self._scope = f"{callers} callers"
        store.apply(self._scope, Open((BudgetContract("writer", max_tokens=AMOUNT_MAX),)))

    def _call(self, calls: int) -> None:
        for _ in range(calls):
            self._store.apply(self._scope, Reserve("writer", 10, f"hold-{next(self._numbers)}"))

    def hold(self, calls: int) -> float:
        """Place so many holds in all; return the seconds of each."""
        each = max(1, calls // self._callers)
        with ThreadPoolExecutor(self._callers) as pool:
            list(pool.map(self._call, [1] * self._callers))  # the threads are there
            began = time.perf_counter()
            list(pool.map(self._call, [each] * self._callers))
            return (time.perf_counter() - began) / (each * self._callers)


def measure(effort: Effort) -> list[Row]:
    """Measure holds of 16 callers and of one, each against the bare transaction."""
    rounds, calls = min(effort.rounds, 11), min(effort.calls, 800)
    times: dict[str, list[float]] = {"floor": [], "16": [], "1": []}
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter(Path(folder) / "floor.db")
        with closing(counter), closing(open_store(f"sqlite:///{folder}/budget.db")) as store:
            many, one = Callers(store, CALLERS), Callers(store, 1)
            for _ in range(rounds):
                times["floor"].append(counter.add(calls))
                times["16"].append(many.hold(calls))
                times["1"].append(one.hold(calls))
    against = "against one durable transaction that changes one number"
    return [
        compare(times, "16", "floor", title=f"SQLite FULL, hold, 16 callers, {against}", goal=0.25),
        compare(times, "1", "floor", title=f"SQLite FULL, hold, 1 caller, {against}", goal=None),
    ]
