"""Holds on a Redis server against the least that a server can be asked: one `INCRBY`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
from tests.bench.harness import Effort, Row
from tests.core.stores.servers import RedisServer

from tbcontracts import BudgetContract
from tbcontracts.commands import Open, Reserve, Settle
from tbcontracts.stores.redis import RedisStore

TOKENS = 10
TAKER = "taker"
AGENTS = (3, 30, 300, 3_000)


class Team:
    """Agents with budget to spare, and one important one that has none of its own."""

    def __init__(self, url: str, agents: int) -> None:
        self._store = RedisStore.from_url(f"{url}?ledger_prefix=bench-{agents}")
        self._holds = 0
        donors = [
            BudgetContract(f"agent-{number}", 1 + number % 7, 1_000_000_000)
            for number in range(agents)
        ]
        self._store.apply("bench", Open((*donors, BudgetContract(TAKER, 9, 0))))

    def borrow(self) -> tuple[float, float]:
        """Place a hold that a donor must pay for, and settle it; return the seconds of both."""
        self._holds += 1
        reserve = Reserve(TAKER, TOKENS, f"hold-{self._holds}")
        began = time.perf_counter()
        applied = self._store.apply("bench", reserve)
        held = time.perf_counter()
        self._store.apply("bench", Settle(reserve.hold_id, TAKER, TOKENS))
        settled = time.perf_counter()
        assert applied.entries[-1].moves, "no donor was needed"
        return held - began, settled - held

    def close(self) -> None:
        """Let go of the server."""
        self._store.close()


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(effort: Effort) -> list[Row]:
    """Measure holds that need a donor, for each number of agents in turn, and bare round trips."""
    calls = max(5, effort.calls // 10)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis").start()
        client = redis.Redis.from_url(server.url)
        teams = {agents: Team(server.url, agents) for agents in AGENTS}
        try:
            return _rows(effort.rounds, calls, client, teams)
        finally:
            client.close()
            for team in teams.values():
                team.close()
            server.kill()


def _rows(rounds: int, calls: int, client: redis.Redis, teams: dict[int, Team]) -> list[Row]:
    floors: list[float] = []
    holds: dict[int, list[float]] = {agents: [] for agents in teams}
    settles: list[float] = []
    few, many = min(teams), max(teams)
    for _ in range(rounds):
        trips = [seconds_of(lambda: client.incrby("floor", TOKENS)) for _ in range(calls)]
        floors.append(statistics.median(trips))
        for agents, team in teams.items():
            pairs = [team.borrow() for _ in range(calls)]
            holds[agents].append(statistics.median(hold for hold, _ in pairs))
            if agents == few:
                settles.append(statistics.median(settle for _, settle in pairs))
    times = ", ".join(
        f"{agents:,} agents: {statistics.median(each) * 1e6:.0f} us"
        for agents, each in holds.items()
    )
    against = f"INCRBY {statistics.median(floors) * 1e6:.0f} us; {times}"
    growth = [large / small for large, small in zip(holds[many], holds[few], strict=True)]
    settle = f"{statistics.median(settles) * 1e6:.0f} us"
    return [
        Row(
            "Redis, hold that needs a donor, in INCRBY round trips",
            _ratio(holds[few], floors),
            1.6,
            against,
        ),
        Row(
            f"Redis, hold that needs a donor, {many:,} agents against {few}",
            statistics.median(growth),
            1.1,
            times,
        ),
        Row("Redis, settling a hold, in INCRBY round trips", _ratio(settles, floors), None, settle),
    ]


def _ratio(times: list[float], floors: list[float]) -> float:
    """Return the median over the rounds."""
    return statistics.median(time / floor for time, floor in zip(times, floors, strict=True))
