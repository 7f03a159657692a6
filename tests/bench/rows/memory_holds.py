"""Reserve and settle in memory, against the least that any shared counter costs.

The floor is a dictionary entry that is changed under a lock, once up and once down: what a budget
without holds, checks, journal or keys would do. Measured at the store's door (`MemoryStore.apply`,
commands included), which the goals are about, and at the manager's, which users call.
"""

from __future__ import annotations

import itertools
import threading

from tests.bench.harness import Effort, Job, Row, compare, in_turn

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.books import JOURNAL_ENTRIES_MAX
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.commands import Open, Reserve, Settle
from tbcontracts.stores import MemoryStore

TOKENS = 10


def floor() -> Job:
    """Return two lock-and-dict updates."""
    lock = threading.Lock()
    held = {"writer": 0}

    def add(name: str, tokens: int) -> None:
        with lock:
            held[name] += tokens

    def job() -> None:
        add("writer", TOKENS)
        add("writer", -TOKENS)

    return job


def at_the_store(journal_entries_max: int) -> Job:
    """Return a hold and its settlement, as commands to the memory store."""
    store = MemoryStore(journal_entries_max=journal_entries_max)
    store.apply("bench", Open((BudgetContract("writer", max_tokens=AMOUNT_MAX),)))
    numbers = itertools.count()

    def job() -> None:
        hold_id = f"hold-{next(numbers)}"
        store.apply("bench", Reserve("writer", TOKENS, hold_id))
        store.apply("bench", Settle(hold_id, "writer", TOKENS))

    return job


def at_the_manager() -> Job:
    """Return a hold and its settlement, as a user writes them."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=AMOUNT_MAX)

    def job() -> None:
        manager.reserve("writer", TOKENS).settle(TOKENS)

    return job


def measure(effort: Effort) -> list[Row]:
    """Measure the pair with and without a journal, and through the manager."""
    jobs = {
        "floor": floor(),
        "journal": at_the_store(JOURNAL_ENTRIES_MAX),
        "none": at_the_store(0),
        "manager": at_the_manager(),
    }
    # Steady means a full journal: before, each pair leaves objects behind for the collector.
    warm_up = JOURNAL_ENTRIES_MAX if effort.rounds > 3 else 0
    times = in_turn(jobs, effort, warm_up=warm_up)
    against = "against two lock-and-dict updates"
    return [
        compare(
            times,
            "journal",
            "floor",
            title=f"memory store, reserve + settle with journal, {against}",
            goal=5,
        ),
        compare(
            times,
            "none",
            "floor",
            title=f"memory store, reserve + settle without journal, {against}",
            goal=2.5,
        ),
        compare(
            times,
            "manager",
            "floor",
            title=f"manager.reserve(...).settle(...) with journal, {against}",
            goal=None,
        ),
    ]
