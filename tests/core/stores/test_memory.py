"""The memory store: what it keeps, what it drops, and that threads do not see halves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, open_store
from tbcontracts.commands import Charge, Close, Open, TopUp
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.stores.base import Store
from tbcontracts.stores.memory import CLOSED_SCOPES_MAX, IDLE_S, MemoryStore

CONTRACTS = Open((BudgetContract("a", max_tokens=100),))


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_open_store_knows_it() -> None:
    """`memory://` is a store; what is unknown says what is known, without a password."""
    store = open_store("memory://")
    assert isinstance(store, MemoryStore)
    assert isinstance(store, Store)
    with pytest.raises(ConfigurationError, match="'ftp'; known: memory") as caught:
        open_store("ftp://user:secret@host/books")
    assert "secret" not in str(caught.value)


def test_the_journal_is_bounded_and_totals_are_not() -> None:
    """Old entries go, in order and without gaps; the account stays exact."""
    store = MemoryStore(journal_entries_max=100)
    store.apply("s", CONTRACTS)
    for _ in range(1_000):
        store.apply("s", Charge("a", 7))
    entries = store.journal("s")
    assert [entry.seq for entry in entries] == list(range(902, 1_002))
    statement = store.read("s")
    assert statement is not None
    assert statement.accounts[0].consumed == 7_000
    assert [entry.seq for entry in store.journal("s", after_seq=999)] == [1_000, 1_001]


def test_a_store_without_journal_keeps_books() -> None:
    """With no journal, listeners hear nothing and the numbers are the same."""
    store = MemoryStore(journal_entries_max=0)
    store.apply("s", CONTRACTS)
    assert store.apply("s", Charge("a", 7)).entries == ()
    statement = store.read("s")
    assert statement is not None
    assert (statement.seq, statement.accounts[0].consumed) == (2, 7)


def test_idle_scopes_are_dropped() -> None:
    """A scope that nobody touched for a day goes when others come; one in use stays."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("idle", CONTRACTS)
    store.apply("in use", CONTRACTS)
    clock.now += IDLE_S
    store.apply("in use", Charge("a", 1))
    clock.now += 1
    for number in range(300):
        store.apply(f"run-{number}", CONTRACTS)
    assert "idle" not in store.scopes()
    assert "in use" in store.scopes()


def test_closed_scopes_are_dropped_beyond_a_thousand() -> None:
    """Closed scopes take late settles for long, but not for ever; the oldest go first."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    for number in range(CLOSED_SCOPES_MAX + 600):
        clock.now += 1
        store.apply(f"run-{number}", CONTRACTS)
        store.apply(f"run-{number}", Close())
    scopes = store.scopes()
    assert CLOSED_SCOPES_MAX <= len(scopes) <= CLOSED_SCOPES_MAX + 256
    assert f"run-{CLOSED_SCOPES_MAX + 599}" in scopes
    assert "run-0" not in scopes


def test_a_scope_that_was_dropped_opens_again() -> None:
    """A manager that comes back to a dropped scope finds its contracts there."""
    clock = Clock()
    manager = BudgetManager(store=MemoryStore(clock=clock))
    manager.register_agent("a", max_tokens=100)
    late = manager.scope("late")
    late.record_usage("a", 10)
    clock.now += IDLE_S + 1
    for number in range(300):
        manager.scope(f"run-{number}").remaining("a")
    assert late.remaining("a") == 100
    late.reserve("a", 50)


def test_a_clock_that_goes_back_stands_still() -> None:
    """Time on the books never runs backwards, whatever the machine's clock does."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("s", CONTRACTS)
    clock.now -= 500
    entry = store.apply("s", TopUp("a", 1)).entries[0]
    assert entry.at == 1_000_000.0


def test_of_40_threads_exactly_two_get_in() -> None:
    """40 holds of 2,000 on 5,000 from 40 threads at once: two are granted, 38 refused."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=5_000)
    start = threading.Barrier(40)

    def attempt(_: int) -> bool:
        start.wait()
        try:
            manager.reserve("a", 2_000)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(40) as pool:
        assert sum(pool.map(attempt, range(40))) == 2
    account = manager.accounts()["a"]
    assert (account.held, account.denials) == (4_000, 38)


def test_readers_see_whole_states() -> None:
    """While threads move budget about, every statement adds up to what is there in all."""
    manager = BudgetManager()
    for name in "abcd":
        manager.register_agent(name, max_tokens=1_000, min_reserve=0)
    stop = threading.Event()

    def move(name: str) -> None:
        while not stop.is_set():
            try:
                manager.reserve(name, 1_500).void()
            except BudgetExceededError:
                continue

    threads = [threading.Thread(target=move, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            statement = manager.statement()
            allocated = sum(account.allocated for account in statement.accounts)
            assert allocated + statement.pool == statement.total == 4_000
    finally:
        stop.set()
        for thread in threads:
            thread.join()
