"""The memory store under threads and interruptions: nobody sees halves, and nothing is lost."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from tests.core.stores.memory_store.clocks import CONTRACTS, Clock

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.commands import Charge, Command, Granted, Posted, Reserve, Settle, Void
from tbcontracts.errors import StoreError
from tbcontracts.stores.base import Applied
from tbcontracts.stores.memory import MemoryStore


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
