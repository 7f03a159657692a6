"""Stores that processes share, interrupted on the thread that is in the middle of a command."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator

import pytest

from tbcontracts import BudgetManager
from tbcontracts.commands import Charge, Command, Granted, Open, Posted, Reserve, Settle, Void
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Applied, Store


class Clock:
    """A clock that does something when it is looked at, which is in the middle of a command."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self) -> float:
        """Return the time, after what is to happen."""
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return 1_000.0


@pytest.fixture
def clock() -> Clock:
    """Return the store's clock."""
    return Clock()


@pytest.fixture
def store(shared_url: str, clock: Clock) -> Iterator[Store]:
    """Return a store with one agent on two scopes' books, each with an open hold."""
    opened = open_store(shared_url, clock=clock)
    for scope in ("s", "other"):
        opened.apply(scope, Open((BudgetContract("a", max_tokens=100),)))
        opened.apply(scope, Reserve("a", 60, "h"))
    yield opened
    opened.close()


def interrupted(
    store: Store, clock: Clock, scope: str, command: Command
) -> tuple[Applied, Applied | Exception]:
    """Carry out a command in the middle of a charge of 1; return both answers."""
    inner: list[Applied | Exception] = []

    def interrupt() -> None:
        try:
            inner.append(store.apply(scope, command))
        except Exception as error:
            inner.append(error)

    clock.meanwhile = interrupt
    outer = store.apply("s", Charge("a", 1))
    return outer, inner[0]


def account(store: Store, scope: str) -> tuple[int, int]:
    """Return what is consumed and held."""
    statement = store.read(scope)
    assert statement is not None
    return statement.accounts[0].consumed, statement.accounts[0].held


def test_a_settlement_in_the_middle_of_a_commit(store: Store, clock: Clock) -> None:
    """It neither waits for ever nor is lost, and the books tell of both."""
    outer, inner = interrupted(store, clock, "s", Settle("h", "a", 50))
    assert isinstance(inner, Applied)
    assert isinstance(inner.reply, Posted)
    assert [(entry.kind, entry.amount) for entry in outer.entries] == [
        ("charged", 1),
        ("settled", 50),
    ]
    assert account(store, "s") == (51, 0)
    assert store.journal("s")[-2:] == outer.entries


def test_a_settlement_of_other_books_in_the_middle_of_a_commit(store: Store, clock: Clock) -> None:
    """The answer of the outer command tells of its own books only."""
    outer, inner = interrupted(store, clock, "other", Void("h"))
    assert isinstance(inner, Applied)
    assert [entry.kind for entry in outer.entries] == ["charged"]
    assert (account(store, "s"), account(store, "other")) == ((1, 60), (0, 0))


def test_no_hold_in_the_middle_of_a_commit(store: Store, clock: Clock) -> None:
    """The books are half written: a hold is refused, and the next one is granted."""
    outer, inner = interrupted(store, clock, "s", Reserve("a", 5, "h2"))
    assert isinstance(inner, StoreError)
    assert isinstance(outer.reply, Posted)
    outer, inner = interrupted(store, clock, "s", Settle("unknown", "nobody", 5))
    assert isinstance(inner, Applied)  # it will fail, and that is logged
    assert isinstance(store.apply("s", Reserve("a", 5, "h3")).reply, Granted)


def test_a_settlement_in_the_middle_of_an_awaited_commit(store: Store, clock: Clock) -> None:
    """A clerk's thread can be interrupted as well."""
    clock.meanwhile = lambda: store.apply("s", Settle("h", "a", 50))
    asyncio.run(store.aapply("s", Charge("a", 1)))
    store.apply("s", Charge("a", 1))  # behind what was put off
    assert account(store, "s") == (52, 0)


def test_reading_in_the_middle_of_a_commit(store: Store, clock: Clock) -> None:
    """A reader sees the books as they were before."""
    seen: list[object] = []
    clock.meanwhile = lambda: seen.append(account(store, "s"))
    store.apply("s", Charge("a", 1))
    assert seen == [(0, 60)]


def test_plain_calls_in_an_event_loop_do_not_wait_for_it(store: Store) -> None:
    """A command that blocks the loop does not keep an awaited one from ending before it."""

    async def awaits() -> None:
        for _ in range(10):
            await store.aapply("s", Charge("a", 1))

    async def blocks() -> None:
        for _ in range(10):
            store.apply("s", Charge("a", 1))
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(awaits(), blocks(), awaits())

    asyncio.run(both())
    assert account(store, "s")[0] == 30


def test_generators_that_the_garbage_collector_ends(shared_url: str) -> None:
    """Abandoned in a reference cycle, a governed generator ends wherever Python collects it."""
    manager = BudgetManager(store=shared_url)
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
        for _ in range(50):
            abandon()
            manager.record_usage("a", 1)

    before = gc.get_threshold()
    gc.set_threshold(7)
    try:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(100)
    finally:
        gc.set_threshold(*before)
    assert not thread.is_alive()
    gc.collect()
    consumed, held = account(manager.store, "default")
    assert held == 0
    assert consumed >= 100
    manager.store.close()
