"""The memory store: what it keeps, what it drops, and that threads do not see halves."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, open_store
from tbcontracts.commands import (
    Charge,
    Close,
    Command,
    Granted,
    Open,
    Posted,
    Reserve,
    Settle,
    TopUp,
    Void,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.hold import Hold
from tbcontracts.stores.base import Applied, Store
from tbcontracts.stores.memory import CLOSED_SCOPES_MAX, IDLE_S, MemoryStore

NUMBERS = itertools.count()
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


class Interrupting:
    """A number that is asked for in the middle of a command, and then does something else."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self.interrupt = interrupt

    def __index__(self) -> int:
        """Return 1, after the interruption."""
        self.interrupt()
        return 1


def interrupted(store: MemoryStore, command: Command) -> tuple[Applied, Applied | Exception]:
    """Carry out a command in the middle of a charge of 1; return both answers."""
    inner: list[Applied | Exception] = []

    def interrupt() -> None:
        try:
            inner.append(store.apply("s", command))
        except Exception as error:
            inner.append(error)

    outer = store.apply("s", Charge("a", cast("int", Interrupting(interrupt))))
    return outer, inner[0]


def test_what_comes_in_the_middle_of_a_command_is_done_right_after_it() -> None:
    """A finalizer or signal handler on the same thread neither waits for ever nor is lost."""
    store = MemoryStore(clock=Clock())
    store.apply("s", CONTRACTS)
    store.apply("s", Reserve("a", 60, "h"))
    outer, inner = interrupted(store, Settle("h", "a", 50))
    assert isinstance(inner, Applied)
    assert isinstance(inner.reply, Posted)
    assert inner.reply.amount == 50
    assert [(entry.kind, entry.amount) for entry in outer.entries] == [
        ("charged", 1),
        ("settled", 50),
    ]
    statement = store.read("s")
    assert statement is not None
    assert (statement.accounts[0].consumed, statement.accounts[0].held) == (51, 0)
    store.apply("s", Reserve("a", 5, "given back"))
    assert isinstance(interrupted(store, Void("given back"))[1], Applied)
    assert [entry.kind for entry in store.journal("s")][-2:] == ["charged", "voided"]


def test_what_cannot_be_answered_in_the_middle_of_a_command_is_refused() -> None:
    """No hold is granted on books that are half written; the command itself is not disturbed."""
    store = MemoryStore(clock=Clock())
    store.apply("s", CONTRACTS)
    outer, inner = interrupted(store, Reserve("a", 5, "h"))
    assert isinstance(inner, StoreError)
    assert "Reserve" in str(inner)
    assert isinstance(outer.reply, Posted)
    outer, inner = interrupted(store, Settle("unknown", "nobody", 5))
    assert isinstance(inner, Applied)  # it will fail, and that is logged
    assert [entry.kind for entry in outer.entries] == ["charged"]
    assert isinstance(store.apply("s", Reserve("a", 5, "h")).reply, Granted)


def test_generators_that_the_garbage_collector_ends_do_not_stop_the_books() -> None:
    """Abandoned in a reference cycle, a governed generator ends wherever Python collects it."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=1_000_000)

    @manager.govern("a")
    def stream(text: str) -> Iterator[str]:
        yield text
        yield text

    def abandon() -> None:
        pieces = stream("hello")
        next(pieces)
        cycle: list[object] = [pieces]
        cycle.append(cycle)

    def work() -> None:
        for _ in range(2_000):
            abandon()
            manager.record_usage("a", 1)

    before = gc.get_threshold()
    gc.set_threshold(7)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(timeout=60)  # far longer than it takes; a thread that waits for itself stays
        assert not thread.is_alive()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    account = manager.accounts()["a"]
    assert account.held == 0
    ended = [entry for entry in manager.journal() if entry.kind == "settled"]
    assert len(ended) == 2_000
    assert account.consumed == 2_000 + sum(entry.amount for entry in ended)


def test_closing_forgets_everything() -> None:
    """What comes after finds new books."""
    store = MemoryStore(clock=Clock())
    store.apply("s", CONTRACTS)
    store.close()
    assert store.read("s") is None
    assert store.scopes() == ()
    store.apply("s", CONTRACTS)
    assert store.scopes() == ("s",)
