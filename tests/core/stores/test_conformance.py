"""The suite for stores: the memory store passes it, and stores that are broken do not."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.stores.servers import RedisServer

from tbcontracts.books import Books
from tbcontracts.commands import Charge, Command, Granted, Open, Reply, Reserve, Settle
from tbcontracts.contract import BudgetContract
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Applied, Store
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.testing.conformance import (
    BrokenPromiseError,
    ConformanceError,
    ManualClock,
    check_histories,
    check_keys,
    check_store,
    check_tasks,
    check_threads,
)
from tbcontracts.testing.history import Event, Recorder, check_history


def memory(clock: ManualClock) -> MemoryStore:
    """Open the store that is checked."""
    return MemoryStore(clock=clock)


def test_the_memory_store_does_what_the_rules_say() -> None:
    """In turn, from 16 threads, from 16 tasks, and again with the same keys."""
    check_store(memory)


def test_a_store_with_its_own_clock_can_be_checked() -> None:
    """Then the time of the entries is the time of the replay."""
    check_store(lambda _: MemoryStore(), own_clock=True, histories=10)


def test_the_sqlite_store_does_what_the_rules_say(tmp_path: Path) -> None:
    """The same suite, and nothing but another factory."""
    numbers = itertools.count()

    def make(clock: ManualClock) -> Store:
        url = f"sqlite:///{tmp_path}/{next(numbers)}.db?synchronous=off"
        return open_store(url, clock=clock)

    check_store(make, histories=6)


@pytest.mark.parametrize("own_clock", [False, True])
def test_the_postgresql_store_does_what_the_rules_say(
    own_clock: bool, postgres_server: str
) -> None:
    """By a clock that is moved, and by the server's own."""
    numbers = itertools.count()

    def make(clock: ManualClock) -> Store:
        schema = f"conformance_{own_clock}_{next(numbers)}".lower()
        url = f"{postgres_server}?ledger_schema={schema}&options=-csynchronous_commit%3Doff"
        return open_store(url, clock=None if own_clock else clock)

    check_store(make, own_clock=own_clock, histories=4, commands=60)


@pytest.mark.parametrize("own_clock", [False, True])
def test_the_redis_store_does_what_the_rules_say(
    own_clock: bool, redis_server: RedisServer
) -> None:
    """By a clock that is moved, and by the server's own."""
    numbers = itertools.count()

    def make(clock: ManualClock) -> Store:
        prefix = f"conformance-{own_clock}-{next(numbers)}"
        # The histories are longer than holds are kept, and the reference keeps them all.
        url = f"{redis_server.url}?ledger_prefix={prefix}&keep_holds_s=1e9"
        return open_store(url, clock=None if own_clock else clock)

    check_store(make, own_clock=own_clock, histories=12)


class Broken(MemoryStore):
    """A memory store that carries out commands in a way of its own."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.time = clock
        self.one_at_a_time = threading.Lock()
        self.number = 0

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command, wrongly."""
        with self.one_at_a_time:
            self.number += 1
            shelf = self._shelves.get(scope) or self._new_shelf(scope)
            before = shelf.books.seq
            reply = self.wrongly(scope, shelf.books, command)
            return Applied(reply, written(self._shelves[scope].books, before))

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Do what is wrong with this store."""
        return step(books, command, self.time())


def written(books: Books, after_seq: int) -> tuple[JournalEntry, ...]:
    """Return the entries after a number."""
    return tuple(entry for entry in books.journal if entry.seq > after_seq)


class ChecksThenActs(Broken):
    """Decides on a copy of the books, and writes when others may have written in between.

    That they did is certain: 16 threads meet once, each after it decided and before it writes.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.decided = threading.Barrier(16)
        self.met = threading.local()

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command without a lock around it."""
        shelf = self._shelves.get(scope) or self._new_shelf(scope)
        books = copy.deepcopy(shelf.books)
        before = books.seq
        reply = step(books, command, self.time())
        if threading.current_thread() is not threading.main_thread():
            if not hasattr(self.met, "once"):
                self.decided.wait()
            self.met.once = True
        shelf.books = books
        return Applied(reply, written(books, before))


class LosesAnUpdate(Broken):
    """Writes back what it read a moment ago, once in a while: an increment is lost."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Forget what another account was charged, now and then."""
        before = {name: account.consumed for name, account in books.accounts.items()}
        reply = step(books, command, self.time())
        if self.number % 50 == 0:
            for name, consumed in before.items():
                books.accounts[name].consumed = consumed
        return reply


class GrantsOneTooMany(Broken):
    """Compares with `>` where it should with `>=`: lets in one that misses by a single token."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Ask for one token less than was asked."""
        if isinstance(command, Reserve) and type(command.amount) is int and command.amount > 0:
            reply = step(books, command._replace(amount=command.amount - 1), self.time())
            return reply._replace(amount=command.amount) if isinstance(reply, Granted) else reply
        return step(books, command, self.time())


class ForgetsKeys(Broken):
    """Carries out every command as if it had no key."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Leave the key out."""
        if getattr(command, "key", None) is not None:
            command = command._replace(key=None)  # type: ignore[call-arg]
        return step(books, command, self.time())


class SettlesTwice(Broken):
    """Posts whatever comes for a hold, each time."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Charge instead of settling, where the hold is ended."""
        hold = books.holds.get(command.hold_id) if isinstance(command, Settle) else None
        if isinstance(command, Settle) and hold is not None and hold.outcome is not None:
            return step(books, Charge(hold.agent, command.amount), self.time())
        return step(books, command, self.time())


class ForgetsLimits(Broken):
    """Lets time stand still, so that no hold ends."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Give no time."""
        return step(books, command, 1_000_000.0)


class SkipsANumber(Broken):
    """Counts an entry that it does not write."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Leave a gap in the journal."""
        if self.number == 30:
            books.seq += 1
        return step(books, command, self.time())


class MixesScopes(Broken):
    """Sends now and then a charge to other books."""

    def wrongly(self, scope: str, books: Books, command: Command) -> Reply:
        """Charge the wrong books too."""
        if isinstance(command, Charge):
            for name, other in self._shelves.items():
                if name != scope and "b" in other.books.accounts:
                    step(other.books, Charge("b", 1), self.time())
        return step(books, command, self.time())


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (ChecksThenActs, check_threads),
        (ChecksThenActs, check_keys),
        (LosesAnUpdate, check_histories),
        (LosesAnUpdate, check_threads),
        (LosesAnUpdate, check_tasks),
        (GrantsOneTooMany, check_histories),
        (GrantsOneTooMany, check_threads),
        (ForgetsKeys, check_histories),
        (ForgetsKeys, check_threads),
        (ForgetsKeys, check_keys),
        (SettlesTwice, check_histories),
        (SettlesTwice, check_threads),
        (SettlesTwice, check_keys),
        (ForgetsLimits, check_histories),
        (ForgetsLimits, check_keys),
        (SkipsANumber, check_histories),
        (SkipsANumber, check_threads),
        (MixesScopes, check_histories),
    ],
)
def test_a_broken_store_fails(
    broken: Callable[[ManualClock], Broken], check: Callable[..., None]
) -> None:
    """Each planted mistake is found by each of the checks that should."""
    with pytest.raises((ConformanceError, BrokenPromiseError)):
        check(broken)


def test_a_store_that_is_only_wrapped_passes() -> None:
    """So what the broken ones fail for is what is broken in them."""
    check_store(Broken, histories=10)


OPENING = Open((BudgetContract("a", max_tokens=10, min_reserve=0),))


def recorded(*commands: Command) -> tuple[list[Event], MemoryStore]:
    """Return the history of commands one after another, and the store they went to."""
    store, recorder = MemoryStore(clock=ManualClock()), Recorder()
    for command in commands:
        recorder.record(command, lambda command: store.apply("s", command))
    return recorder.events, store


def test_what_took_effect_before_it_was_asked_is_found() -> None:
    """The journal's order must be one that the callers could have seen."""
    events, store = recorded(OPENING, Charge("a", 1), Charge("a", 2))
    statement = store.read("s")
    assert statement is not None
    check_history(events, statement)
    first, second, third = events
    swapped = [
        first,
        second._replace(invoked=third.invoked, returned=third.returned),
        third._replace(invoked=second.invoked, returned=second.returned),
    ]
    with pytest.raises(ConformanceError, match="had ended before"):
        check_history(swapped, statement)


def test_a_refusal_out_of_date_is_found() -> None:
    """A refusal that wrote nothing must still be true of some moment between ask and answer."""
    ask = Reserve("a", 11, "h")
    events, store = recorded(OPENING, ask, ask, Charge("a", 0), Charge("a", 4), ask)
    statement = store.read("s")
    assert statement is not None
    check_history(events, statement)
    assert events[2].entries == ()
    late = events[2]._replace(invoked=20, returned=21)
    with pytest.raises(ConformanceError, match="Nothing explains"):
        check_history([*events[:2], *events[3:], late], statement)
