"""For those who write a store: does it do what the rules say?

    def test_my_store() -> None:
        check_store(lambda clock: MyStore("my://...", clock=clock))

Every store is held against `Reference`, a second statement of the rules, and against the promises:
one command after another, many at the same time, and the same ones again. What fails is shown with
the seed that makes it fail again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tbcontracts.books import Statement
from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Granted,
    Open,
    Posted,
    Reply,
    Reserve,
    Settle,
    TopUp,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import HoldResolvedError, IdempotencyConflictError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied, Store
from tbcontracts.testing.audit import Audit
from tbcontracts.testing.history import ConformanceError, Recorder, check_history
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome

__all__ = [
    "ConformanceError",
    "ManualClock",
    "check_histories",
    "check_keys",
    "check_store",
    "check_tasks",
    "check_threads",
]

_SWITCH_S = 1e-5  # threads take turns within a command, not after many
_PAUSES_S = (0.0, 0.0, 0.0, 1.0)


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; a negative number sets the clock back."""
        with self._lock:
            self._now += seconds


MakeStore = Callable[[ManualClock], Store]
"""Opens an empty store. Where it can, the store takes its time from the clock."""


def check_store(
    make_store: MakeStore,
    *,
    own_clock: bool = False,
    histories: int = 40,
    commands: int = 100,
    callers: int = 16,
    seed: int = 0,
) -> None:
    """Check a store in every way that there is here.

    Args:
        make_store: Opens an empty store.
        own_clock: The store has its own time and does not look at the clock that it is given. Then
            nothing is checked that has to do with limits; the rest is.
        histories: How many histories are made up, each on books of its own.
        commands: How many commands each history has, or each of the concurrent callers gives.
        callers: How many callers there are at a time.
        seed: Where chance begins.

    Raises:
        ConformanceError: The store does something else than the rules say.
        BrokenPromiseError: What it wrote to the journal breaks a promise.
    """
    check_histories(
        make_store, own_clock=own_clock, histories=histories, commands=commands, seed=seed
    )
    for check in (check_threads, check_tasks):
        check(make_store, own_clock=own_clock, callers=callers, commands=commands, seed=seed)
    check_keys(make_store, own_clock=own_clock, callers=callers)


def check_histories(
    make_store: MakeStore,
    *,
    own_clock: bool = False,
    histories: int = 40,
    commands: int = 100,
    seed: int = 0,
) -> None:
    """Check histories of one command after another; every second one is awaited.

    Raises:
        ConformanceError: A reply or the books differ from the reference.
        BrokenPromiseError: What it wrote to the journal breaks a promise.
    """
    with _store(make_store) as (store, clock):
        _check_unknown_scope(store)
        bystander = store.apply("bystander", Commands(random.Random(seed)).opening())
        before = store.read("bystander")
        for number in range(seed, seed + histories):
            with _showing(f"history of seed {number}"):
                history = _History(store, clock, f"history-{number}", own_clock=own_clock)
                history.run(random.Random(number), commands, awaited=number % 2 == 1)
        _expect(store.read("bystander"), before, "the books that nobody touched")
        _expect(store.journal("bystander"), bystander.entries, "their journal")


class _History:
    """One scope, the reference of it, and what was heard of it."""

    def __init__(self, store: Store, clock: ManualClock, scope: str, *, own_clock: bool) -> None:
        self._store = store
        self._clock = clock
        self._scope = scope
        self._own_clock = own_clock
        self._reference = Reference()
        self._audit = Audit()
        self._heard: list[JournalEntry] = []

    def run(self, choices: random.Random, commands: int, *, awaited: bool) -> None:
        """Carry out commands at random, and compare after each."""
        maker = Commands(choices)
        loop = asyncio.new_event_loop() if awaited else None

        def apply(command: Command) -> Applied:
            if loop is None:
                return self._store.apply(self._scope, command)
            return loop.run_until_complete(self._store.aapply(self._scope, command))

        try:
            self._step(maker.opening(), apply)
            for number in range(commands):
                command, pause_s = maker.next()
                if not self._own_clock:
                    self._clock.advance(pause_s)
                with _showing(f"command {number}, {command}"):
                    self._step(command, apply)
            if loop is not None:
                read = loop.run_until_complete(self._store.aread(self._scope))
                _expect(read, self._store.read(self._scope), "the awaited statement")
                read_journal = loop.run_until_complete(self._store.ajournal(self._scope, 3))
                _expect(read_journal, self._store.journal(self._scope, 3), "the awaited journal")
        finally:
            if loop is not None:
                loop.close()
        self._check_journal()

    def _step(self, command: Command, apply: Callable[[Command], Applied]) -> None:
        entries: list[JournalEntry] = []

        def ask() -> Reply:
            applied = apply(command)
            entries.extend(applied.entries)
            return applied.reply

        reply = outcome(ask)
        now = self._reference.now if self._own_clock else self._clock()
        if entries:
            now = entries[-1].at
        expected = outcome(lambda: self._reference.step(command, now))
        statement = _read(self._store, self._scope)
        found = difference(reply, expected, statement, self._reference)
        if found:
            raise ConformanceError(found)
        for entry in entries:
            self._audit.hear(entry)
        self._audit.compare(statement)
        self._heard += entries

    def _check_journal(self) -> None:
        """Compare the journal that is kept with what each command said that it wrote."""
        kept = self._store.journal(self._scope)
        _expect(kept, tuple(self._heard[-len(kept) :]), "the journal")
        later = tuple(entry for entry in kept if entry.seq > self._audit.seq - 5)
        _expect(self._store.journal(self._scope, self._audit.seq - 5), later, "the last 5 entries")


def check_threads(
    make_store: MakeStore,
    *,
    own_clock: bool = False,
    callers: int = 16,
    commands: int = 100,
    seed: int = 0,
) -> None:
    """Check what threads do to one scope at the same time, replayed in the order of the journal.

    Raises:
        ConformanceError: No order of the commands explains the replies and the books.
        BrokenPromiseError: The journal breaks a promise.
    """
    with _store(make_store) as (store, clock), _showing(f"threads of seed {seed}"):
        recorder, start = Recorder(), threading.Barrier(callers)
        makers = _makers(callers, seed)

        def apply(command: Command) -> Applied:
            return store.apply("s", command)

        def call(number: int) -> None:
            choices = random.Random(f"{seed}-pauses-{number}")
            start.wait()
            for _ in range(commands):
                if not own_clock:
                    clock.advance(choices.choice(_PAUSES_S))
                recorder.record(makers[number].next()[0], apply)

        recorder.record(makers[0].opening(), apply)
        with _quick_turns(), ThreadPoolExecutor(callers) as pool:
            list(pool.map(call, range(callers)))
        check_history(recorder.events, _read(store, "s"))


def check_tasks(
    make_store: MakeStore,
    *,
    own_clock: bool = False,
    callers: int = 16,
    commands: int = 100,
    seed: int = 0,
) -> None:
    """Check what tasks of one event loop do to one scope at the same time.

    Raises:
        ConformanceError: No order of the commands explains the replies and the books.
        BrokenPromiseError: The journal breaks a promise.
    """
    with _store(make_store) as (store, clock), _showing(f"tasks of seed {seed}"):
        recorder = Recorder()
        makers = _makers(callers, seed)

        async def apply(command: Command) -> Applied:
            return await store.aapply("s", command)

        async def call(number: int) -> None:
            choices = random.Random(f"{seed}-pauses-{number}")
            for _ in range(commands):
                if not own_clock:
                    clock.advance(choices.choice(_PAUSES_S))
                await recorder.arecord(makers[number].next()[0], apply)
                await asyncio.sleep(0)

        async def run() -> None:
            await recorder.arecord(makers[0].opening(), apply)
            await asyncio.gather(*map(call, range(callers)))

        asyncio.run(run())
        check_history(recorder.events, _read(store, "s"))


def check_keys(make_store: MakeStore, *, own_clock: bool = False, callers: int = 16) -> None:
    """Check that a command with a key, or the end of a hold, takes effect once.

    Raises:
        ConformanceError: It does so twice, not at all, or answers otherwise the second time.
    """
    with _store(make_store) as (store, clock):
        store.apply("s", Open((BudgetContract("a", max_tokens=100, min_reserve=0),)))
        hold = Reserve("a", 60, "h1", key="hold")
        granted = _all_at_once(callers, lambda n: store.apply("s", hold._replace(hold_id=f"h{n}")))
        reply = granted[0]
        _expect(granted, [reply] * callers, "the replies to one key")
        if not isinstance(reply, Granted):
            msg = f"A hold that fits was not granted: {reply!r}."
            raise ConformanceError(msg)
        _expect(store.resolve("s", "hold"), reply, "what the key resolves to")
        _expect(asyncio.run(store.aresolve("s", "hold")), reply, "what the key resolves to")
        _expect(store.resolve("s", "never"), None, "a key that was not used")
        _expect(_account(store).held, 60, "the tokens held under one key")
        for other in (hold._replace(amount=61), Charge("a", 60, key="hold")):
            found = outcome(lambda other=other: store.apply("s", other).reply)  # type: ignore[misc]
            _expect(found, IdempotencyConflictError, "a key used for something else")

        denied = outcome(lambda: store.apply("s", Reserve("a", 70, "late", key="no")).reply)
        _expect(isinstance(denied, Denied), True, "a hold that does not fit is denied")
        store.apply("s", TopUp("a", 50, key="more"))
        store.apply("s", TopUp("a", 50, key="more"))
        _expect(_account(store).allocated, 150, "the allocation after one top-up, sent twice")
        again = store.apply("s", Reserve("a", 70, "late again", key="no")).reply
        _expect(again, denied, "a denied key after there is budget")

        charges = _all_at_once(callers, lambda _: store.apply("s", Charge("a", 5, key="c")))
        _expect(charges, [charges[0]] * callers, "the replies to one charge")
        _expect(_account(store).consumed, 5, "what was charged")

        ends = _all_at_once(callers, lambda n: store.apply("s", Settle(reply.hold_id, "a", n)))
        posted = [end for end in ends if isinstance(end, Posted)]
        _expect(len(posted), 1, "the number of settlements of one hold")
        _expect(ends.count(HoldResolvedError), callers - 1, "the number of refused settlements")
        _expect(_account(store).consumed, 5 + posted[0].amount, "what was settled")
        same = Settle(reply.hold_id, "a", posted[0].amount)
        _expect(store.apply("s", same).reply, posted[0], "the same settlement again")
        _expect(_account(store).held, 0, "what is held after the hold was settled")
        if not own_clock:
            _check_forgetting(store, clock)


def _check_forgetting(store: Store, clock: ManualClock) -> None:
    """Check how long keys are kept: refusals for 10 minutes, all others for a day."""
    clock.advance(601)
    _expect(store.resolve("s", "no"), None, "a refusal after 10 minutes")
    granted = store.apply("s", Reserve("a", 70, "at last", key="no", ttl_s=50_000)).reply
    _expect(isinstance(granted, Granted), True, "a denied key is asked again after 10 minutes")
    clock.advance(85_000)
    consumed = _account(store).consumed
    store.apply("s", Charge("a", 5, key="c"))
    _expect(_account(store).consumed, consumed, "what is charged by the same key within a day")
    clock.advance(10_000)
    _expect(store.resolve("s", "c"), None, "a charge after a day")
    _expect(store.resolve("s", "no"), granted, "a hold's key, for twice its limit")


def _makers(callers: int, seed: int) -> list[Commands]:
    """Return a maker of commands for each caller; they share agents and keys, not holds."""
    return [
        Commands(random.Random(f"{seed}-{number}"), f"caller{number}-", closes=seed % 4 == 1)
        for number in range(callers)
    ]


def _all_at_once(callers: int, apply: Callable[[int], Applied]) -> list[object]:
    """Return what this many threads are answered that ask at the same time."""
    start = threading.Barrier(callers)

    def call(number: int) -> object:
        start.wait()
        return outcome(lambda: apply(number).reply)

    with _quick_turns(), ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


def _check_unknown_scope(store: Store) -> None:
    """Check that looking does not make a scope."""
    for _ in range(2):
        _expect(store.read("never"), None, "the statement of a scope that never was")
        _expect(store.journal("never"), (), "the journal of a scope that never was")
        _expect(store.resolve("never", "key"), None, "a key in a scope that never was")


def _read(store: Store, scope: str) -> Statement:
    statement = store.read(scope)
    if statement is None:
        msg = f"There are no books of scope {scope!r}."
        raise ConformanceError(msg)
    return statement


def _account(store: Store) -> Any:
    return _read(store, "s").accounts[0]


def _expect(got: object, wanted: object, what: str) -> None:
    if got != wanted:
        msg = f"{what}: {got!r}, not {wanted!r}"
        raise ConformanceError(msg)


@contextmanager
def _showing(what: str) -> Iterator[None]:
    """Say where it was, if something is wrong."""
    try:
        yield
    except AssertionError as error:
        msg = f"{what}: {error}"
        raise type(error)(msg) from None


@contextmanager
def _store(make_store: MakeStore) -> Iterator[tuple[Store, ManualClock]]:
    """Open a store, and close it in the end."""
    clock = ManualClock()
    store = make_store(clock)
    try:
        yield store, clock
    finally:
        store.close()


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
