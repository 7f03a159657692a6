"""A hold that needs a donor, with few agents and with very many: cost must not grow with them."""

from __future__ import annotations

import random
import statistics
import threading
import time

from tests.bench.harness import Effort, Row

from tbcontracts import BudgetContract
from tbcontracts.commands import Charge, Open, Reserve, Settle
from tbcontracts.stores import MemoryStore

TOKENS = 10
TAKER = "taker"


class Team:
    """Agents with budget to spare, and one important one that has none of its own."""

    def __init__(self, agents: int) -> None:
        self._store = MemoryStore()
        self._random = random.Random(agents)
        self._names = [f"agent-{number}" for number in range(agents)]
        self._holds = 0
        donors = [
            BudgetContract(name, 1 + number % 7, 1_000_000 + self._random.randrange(1_000_000))
            for number, name in enumerate(self._names)
        ]
        taker = BudgetContract(TAKER, priority=9, max_tokens=0)
        self._store.apply("bench", Open((*donors, taker)))
        self.borrow()  # builds the order of donors

    def borrow(self) -> float:
        """Place a hold that a donor must pay for; return its seconds.

        Before it some agent spends of its own, as agents do, so that the order has to be mended.
        """
        self._store.apply("bench", Charge(self._random.choice(self._names), TOKENS))
        self._holds += 1
        reserve = Reserve(TAKER, TOKENS, f"hold-{self._holds}")
        began = time.perf_counter()
        applied = self._store.apply("bench", reserve)
        seconds = time.perf_counter() - began
        assert applied.entries[-1].moves, "no donor was needed"
        self._store.apply("bench", Settle(reserve.hold_id, TAKER, TOKENS))
        return seconds


class Floor:
    """One dictionary entry that is changed under a lock, timed as a hold is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held = {TAKER: 0}

    def update(self) -> None:
        """Change the entry."""
        with self._lock:
            self._held[TAKER] += TOKENS

    def seconds(self, calls: int) -> float:
        """Return the seconds of one update."""
        began = time.perf_counter()
        for _ in range(calls):
            self.update()
        return (time.perf_counter() - began) / calls


def measure(effort: Effort) -> list[Row]:
    """Measure holds that need a donor, for each number of agents in turn."""
    teams = {agents: Team(agents) for agents in effort.agents}
    floor = Floor()
    floors: list[float] = []
    medians: dict[int, list[float]] = {agents: [] for agents in teams}
    for _ in range(effort.rounds):
        floors.append(floor.seconds(effort.calls))
        for agents, team in teams.items():
            calls = [team.borrow() for _ in range(max(5, effort.calls // 10))]
            medians[agents].append(statistics.median(calls))
    few, many = min(teams), max(teams)
    growth = [large / small for large, small in zip(medians[many], medians[few], strict=True)]
    in_floors = {
        agents: statistics.median(
            hold / update for hold, update in zip(rounds, floors, strict=True)
        )
        for agents, rounds in medians.items()
    }
    times = ", ".join(
        f"{agents:,}: {statistics.median(rounds) * 1e6:.1f} us"
        for agents, rounds in medians.items()
    )
    ratios = ", ".join(f"{agents:,}: {ratio:.0f}" for agents, ratio in in_floors.items())
    update = f"{statistics.median(floors) * 1e6:.2f} us"
    return [
        Row(
            f"memory store, hold that needs a donor, {many:,} agents against {few:,}",
            statistics.median(growth),
            3,
            times,
        ),
        Row(
            f"memory store, hold that needs a donor, {many:,} agents, in lock-and-dict updates",
            in_floors[many],
            30,
            f"in updates of {update}, by number of agents: {ratios}",
        ),
    ]
