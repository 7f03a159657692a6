"""The memory store: what it keeps, what it drops, and when."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.stores.memory_store.clocks import CONTRACTS, Clock

from tbcontracts import BudgetManager, open_store
from tbcontracts.commands import Charge, Close, Granted, Open, Reserve, Settle, TopUp
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.hold import Hold
from tbcontracts.stores.base import Store
from tbcontracts.stores.memory import CLOSED_SCOPES_MAX, IDLE_S, MemoryStore

NUMBERS = itertools.count()


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


def test_a_command_that_writes_more_than_is_kept_answers_with_what_is_kept() -> None:
    """A journal of 10 entries cannot tell of 20; the last ones are told, in order."""
    store = MemoryStore(journal_entries_max=10)
    contracts = tuple(BudgetContract(f"a{number}", max_tokens=1) for number in range(20))
    applied = store.apply("s", Open(contracts))
    assert [entry.seq for entry in applied.entries] == list(range(11, 21))


def fill(store: MemoryStore, scopes: int = 300) -> None:
    """Open so many new scopes that the store looks for old ones."""
    for _ in range(scopes):
        store.apply(f"new-{next(NUMBERS)}", CONTRACTS)


class Meddler:
    """A lock that lets something happen just before it is taken for the first time."""

    def __init__(self, lock: Any, meddle: Callable[[], object]) -> None:
        self.lock = lock
        self.meddle: Callable[[], object] | None = meddle

    def __enter__(self) -> None:
        """Meddle, then take the lock."""
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Let go of the lock."""
        self.lock.release()

    def acquire(self, *, blocking: bool) -> bool:
        """Take the lock, without meddling."""
        return bool(self.lock.acquire(blocking=blocking))

    def release(self) -> None:
        """Let go of the lock."""
        self.lock.release()


def test_a_charge_is_not_lost_when_its_scope_is_dropped_meanwhile() -> None:
    """A command that found its scope just before it was dropped is on the books that are kept."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("late", CONTRACTS)
    clock.now += IDLE_S + 1
    old = store._shelves["late"]

    def drop() -> None:
        fill(store)
        assert "late" not in store.scopes()

    old.lock = Meddler(old.lock, drop)  # type: ignore[assignment]
    store.apply("late", Charge("a", 7, track=True))
    statement = store.read("late")
    assert statement is not None
    assert statement.accounts[0].consumed == 7


def test_a_scope_that_is_in_use_is_not_dropped() -> None:
    """A command that is being carried out keeps its scope, however idle it was until then."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("s", CONTRACTS)
    clock.now += IDLE_S + 1
    with store._shelves["s"].lock:  # as a thread does that is about to carry out a command
        thread = threading.Thread(target=fill, args=(store,))
        thread.start()
        thread.join()
        assert "s" in store.scopes()


def test_no_scope_is_dropped_while_a_hold_is_open() -> None:
    """A hold may be longer than the time after which a scope counts as idle."""
    clock = Clock()
    manager = BudgetManager(store=(store := MemoryStore(clock=clock)), clock=clock)
    manager.register_agent("a", max_tokens=100)
    hold = manager.scope("long").reserve("a", 60, ttl_s=2 * IDLE_S)
    clock.now += IDLE_S + 1
    fill(store)
    assert "long" in store.scopes()
    clock.now += IDLE_S
    fill(store)
    assert "long" not in store.scopes()
    hold.settle(50)  # late, and not lost: on new books
    assert manager.scope("long").accounts()["a"].consumed == 50
    hold.settle(50)
    assert manager.scope("long").accounts()["a"].consumed == 50


def test_no_idle_scope_is_dropped_before_its_keys_are_forgotten() -> None:
    """Otherwise the same command sent again would take effect twice."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("s", CONTRACTS)
    first = store.apply("s", Reserve("a", 60, "h", ttl_s=0.8 * IDLE_S, key="k")).reply
    store.apply("s", Settle("h", "a", 60))
    clock.now += 1.5 * IDLE_S
    fill(store)
    assert store.apply("s", Reserve("a", 60, "h2", ttl_s=0.8 * IDLE_S, key="k")).reply == first
    clock.now += 2 * IDLE_S
    fill(store)
    assert "s" not in store.scopes()


def test_closed_scopes_with_open_holds_stay() -> None:
    """Their settlements are still to come; when the limit has passed they go like the others."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("first", CONTRACTS)
    store.apply("first", Reserve("a", 60, "h", ttl_s=600))
    store.apply("first", Close())
    for number in range(CLOSED_SCOPES_MAX + 300):
        store.apply(f"closed-{number}", Close())
    assert "first" in store.scopes()
    clock.now += 600
    for number in range(300):
        store.apply(f"closed again-{number}", Close())
    assert "first" not in store.scopes()


def test_a_key_is_resolved_until_its_time_is_over() -> None:
    """A refusal for 10 minutes, anything else for a day; by the clock, not by the last command."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.apply("s", CONTRACTS)
    denied = store.apply("s", Reserve("a", 101, "h", key="no")).reply
    posted = store.apply("s", Charge("a", 1, key="yes")).reply
    clock.now += 599
    assert (store.resolve("s", "no"), store.resolve("s", "yes")) == (denied, posted)
    clock.now += 1
    assert (store.resolve("s", "no"), store.resolve("s", "yes")) == (None, posted)
    clock.now += IDLE_S - 600
    assert store.resolve("s", "yes") is None


def test_a_late_settlement_without_a_contract_is_not_lost() -> None:
    """Where the scope was dropped, a name that was only tracked gets its line again."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    manager = BudgetManager(store=store, clock=clock)
    granted = store.apply("s", Reserve("nobody", 5, "h", track=True)).reply
    assert isinstance(granted, Granted)
    hold = Hold(manager, "s", 5, granted)
    clock.now += 2 * IDLE_S
    fill(store)
    assert "s" not in store.scopes()
    hold.settle(9)
    statement = store.read("s")
    assert statement is not None
    assert (statement.accounts[0].agent, statement.accounts[0].consumed) == ("nobody", 9)


def test_closing_forgets_everything() -> None:
    """What comes after finds new books."""
    store = MemoryStore(clock=Clock())
    store.apply("s", CONTRACTS)
    store.close()
    assert store.read("s") is None
    assert store.scopes() == ()
    store.apply("s", CONTRACTS)
    assert store.scopes() == ("s",)
