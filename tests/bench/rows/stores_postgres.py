"""PostgreSQL: a hold that needs a donor, against the commit of one changed row.

The floor is a prepared UPDATE of one row, committed by itself: one trip to the server and one
durable write. A hold takes two trips, so that the rules can decide between them.
"""

from __future__ import annotations

import itertools
import signal
import sys
import time

import psycopg
from tests.bench.harness import Effort, Row, compare
from tests.core.stores.postgres_server import PostgresServer

from tbcontracts import BudgetContract
from tbcontracts.commands import Open, Reserve, Settle
from tbcontracts.stores import Store, open_store


class Counter:
    """One number in a row."""

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self._db.execute("CREATE TABLE counter (id int PRIMARY KEY, held bigint)")
        self._db.execute("INSERT INTO counter VALUES (1, 0)")

    def add(self, calls: int) -> float:
        """Change it so many times; return the seconds of each."""
        began = time.perf_counter()
        for _ in range(calls):
            self._db.execute("UPDATE counter SET held = held + 10 WHERE id = 1")
        return (time.perf_counter() - began) / calls

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


class Team:
    """Agents with budget to spare, and one important one that has none of its own."""

    def __init__(self, store: Store, agents: int) -> None:
        self._store = store
        self._scope = f"{agents} agents"
        self._numbers = itertools.count()
        donors = [
            BudgetContract(f"agent-{number}", 1 + number % 7, 1_000_000) for number in range(agents)
        ]
        store.apply(self._scope, Open((*donors, BudgetContract("taker", 9, 0))))
        self.borrow(5)

    def borrow(self, calls: int) -> float:
        """Place so many holds that a donor must pay for; return the seconds of each."""
        seconds = 0.0
        for number in itertools.islice(self._numbers, calls):
            reserve = Reserve("taker", 10, f"hold-{number}")
            began = time.perf_counter()
            applied = self._store.apply(self._scope, reserve)
            seconds += time.perf_counter() - began
            assert applied.entries[-1].moves, "no donor was needed"
            self._store.apply(self._scope, Settle(reserve.hold_id, "taker", 10))
        return seconds / calls


def measure(effort: Effort) -> list[Row]:
    """Measure holds among few agents and among many."""
    server = PostgresServer.installed()
    if server is None:
        sys.stderr.write("PostgreSQL is not installed (Debian: apt-get install postgresql).\n")
        return []
    server.start()
    try:
        return _measure(effort, server.url)
    finally:
        server.stop(signal.SIGINT)
        server.remove()


def _measure(effort: Effort, url: str) -> list[Row]:
    rounds, calls = min(effort.rounds, 15), min(effort.calls, 100)
    few, many = (3, 3_000) if effort.rounds > 3 else (3, 30)
    counter, store = Counter(url), open_store(url)
    teams = {f"{agents:,}": Team(store, agents) for agents in (few, many)}
    times: dict[str, list[float]] = {"floor": [], **{name: [] for name in teams}}
    for _ in range(rounds):
        times["floor"].append(counter.add(calls))
        for name, team in teams.items():
            times[name].append(team.borrow(calls))
    counter.close()
    store.close()
    floor = "the committed update of one row"
    small, large = teams
    return [
        compare(
            times,
            name,
            "floor",
            title=f"PostgreSQL, hold that needs a donor, {name} agents, against {floor}",
            goal=1.7,
        )
        for name in teams
    ] + [
        compare(
            times,
            large,
            small,
            title=f"PostgreSQL, hold that needs a donor, {large} agents against {small}",
            goal=1.1,
        )
    ]
