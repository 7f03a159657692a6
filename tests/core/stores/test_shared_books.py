"""Stores that processes share: equal to the reference, whoever writes, also when opened anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tbcontracts.commands import Command, Open, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.events import JournalEntry
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Store
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Return a clock."""
    return Clock()


@pytest.fixture
def opened(shared_url: str, clock: Clock) -> Iterator[list[Store]]:
    """Return two stores on the same books, as two processes have them."""
    stores = [open_store(shared_url, clock=clock) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


class Replay:
    """Commands at random, carried out by stores in turn, compared with the reference."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.chance = random.Random(seed)
        self.clock = clock
        self.reference = Reference()
        self.written: list[JournalEntry] = []
        self._made = Commands(self.chance)
        self._next: tuple[Command, float] = (self._made.opening(), 0.0)

    def step(self, store: Store, carry_out: Callable[[Command], Reply]) -> None:
        """Carry out one command, and compare its reply and the books."""
        command, wait_s = self._next
        self.clock.now_s += wait_s
        reply = outcome(lambda: carry_out(command))
        expected = outcome(lambda: self.reference.step(command, self.clock.now_s))
        assert difference(reply, expected, store.read("run"), self.reference) is None, command
        self._next = self._made.next()

    def check_journal(self, store: Store) -> None:
        """Compare what was told with what is kept; nothing is missing."""
        assert list(store.journal("run")) == self.written
        assert [entry.seq for entry in self.written] == list(range(1, len(self.written) + 1))


@pytest.mark.parametrize("seed", range(25))
def test_two_processes_and_reopening_equal_the_reference(
    seed: int, opened: list[Store], shared_url: str, clock: Clock
) -> None:
    """Commands go to either of two stores on the same books, which are opened anew now and then."""
    replay = Replay(seed, clock)
    for _ in range(60):
        store = replay.chance.choice(opened)

        def carry_out(command: Command, store: Store = store) -> Reply:
            applied = store.apply("run", command)
            replay.written.extend(applied.entries)
            return applied.reply

        replay.step(store, carry_out)
        if replay.chance.random() < 0.03:
            at = replay.chance.randrange(2)
            opened[at].close()
            opened[at] = open_store(shared_url, clock=clock)
    replay.check_journal(opened[0])


@pytest.mark.parametrize("seed", range(100, 106))
def test_both_doors_of_one_store_equal_the_reference(
    seed: int, opened: list[Store], clock: Clock
) -> None:
    """Plain and awaited commands meet on the same books."""
    replay, store = Replay(seed, clock), opened[0]
    with closing(asyncio.new_event_loop()) as loop:
        for _ in range(60):

            def carry_out(command: Command) -> Reply:
                if replay.chance.random() < 0.5:
                    applied = store.apply("run", command)
                else:
                    applied = loop.run_until_complete(store.aapply("run", command))
                replay.written.extend(applied.entries)
                return applied.reply

            replay.step(store, carry_out)
        assert loop.run_until_complete(store.aread("run")) == store.read("run")
        assert loop.run_until_complete(store.ajournal("run")) == store.journal("run")
    replay.check_journal(store)


def test_accounts_stand_in_the_order_of_opening(any_url: str) -> None:
    """Agents that one command opens too: as the code lists them, for whoever opens the books."""
    names = ("writer", "critic", "researcher", "editor")
    with closing(open_store(any_url)) as store:
        store.apply("s", Open(tuple(map(BudgetContract, names[:3]))))
        store.apply("s", Open(tuple(map(BudgetContract, names))))
        others = [store] if any_url.startswith("memory") else [store, open_store(any_url)]
        for other in others:
            statement = other.read("s")
            assert statement is not None
            assert tuple(account.agent for account in statement.accounts) == names
        for other in others[1:]:
            other.close()
