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
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tbcontracts.commands import Command, Open, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied, Store
from tbcontracts.testing.audit import Audit, BrokenPromiseError
from tbcontracts.testing.checking import (
    ConformanceError,
    MakeStore,
    ManualClock,
    expect,
    leave_loop,
    opened,
    quick_turns,
    read_books,
    showing,
)
from tbcontracts.testing.conformance_keys import check_keys
from tbcontracts.testing.history import Recorder, check_history
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome

__all__ = [
    "BrokenPromiseError",
    "ConformanceError",
    "MakeStore",
    "ManualClock",
    "check_histories",
    "check_keys",
    "check_store",
    "check_tasks",
    "check_threads",
]

_PAUSES_S = (0.0, 0.0, 0.0, 1.0)
_COMMANDS_PER_SCOPE = 20  # of each caller; then the budget is used up, and they go on to new books


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
    with opened(make_store) as (store, clock):
        _check_unknown_scope(store)
        _check_scopes(store)
        for number in range(seed, seed + histories):
            # New for each: a store may forget books that nobody has touched for long.
            bystander = f"bystander-{number}"
            opening = store.apply(bystander, Commands(random.Random(seed)).opening())
            before = store.read(bystander)
            with showing(f"history of seed {number}"):
                history = _History(store, clock, f"history-{number}", own_clock=own_clock)
                unit = "usd" if number % 3 == 1 else "tokens"
                history.run(random.Random(number), commands, awaited=number % 2 == 1, unit=unit)
                expect(store.read(bystander), before, "the books that nobody touched")
                expect(store.journal(bystander), opening.entries, "their journal")


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

    def run(self, choices: random.Random, commands: int, *, awaited: bool, unit: str) -> None:
        """Carry out commands at random, and compare after each."""
        maker = Commands(choices, unit=unit)
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
                with showing(f"command {number}, {command}"):
                    self._step(command, apply)
            if loop is not None:
                read = loop.run_until_complete(self._store.aread(self._scope))
                expect(read, self._store.read(self._scope), "the awaited statement")
                read_journal = loop.run_until_complete(self._store.ajournal(self._scope, 3))
                expect(read_journal, self._store.journal(self._scope, 3), "the awaited journal")
        finally:
            if loop is not None:
                loop.run_until_complete(leave_loop(self._store))
                loop.run_until_complete(loop.shutdown_default_executor())
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
        statement = read_books(self._store, self._scope)
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
        expect(kept, tuple(self._heard[-len(kept) :]), "the journal")
        later = tuple(entry for entry in kept if entry.seq > self._audit.seq - 5)
        expect(self._store.journal(self._scope, self._audit.seq - 5), later, "the last 5 entries")


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
    with opened(make_store) as (store, clock):
        for number in range(seed, seed + _rounds(commands)):
            with showing(f"threads of seed {number}"):
                _run_threads(store, None if own_clock else clock, callers, number)


def _run_threads(store: Store, clock: ManualClock | None, callers: int, seed: int) -> None:
    """Let threads work on one scope, and check the history."""
    scope, recorder, start = f"threads-{seed}", Recorder(), threading.Barrier(callers)
    makers = _makers(callers, seed)

    def apply(command: Command) -> Applied:
        return store.apply(scope, command)

    def call(number: int) -> None:
        choices = random.Random(f"{seed}-pauses-{number}")
        start.wait()
        for _ in range(_COMMANDS_PER_SCOPE):
            if clock is not None:
                clock.advance(choices.choice(_PAUSES_S))
            recorder.record(makers[number].next()[0], apply)

    recorder.record(makers[0].opening(), apply)
    with quick_turns(), ThreadPoolExecutor(callers) as pool:
        list(pool.map(call, range(callers)))
    check_history(recorder.events, read_books(store, scope))


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
    with opened(make_store) as (store, clock):
        for number in range(seed, seed + _rounds(commands)):
            with showing(f"tasks of seed {number}"):
                asyncio.run(_run_tasks(store, None if own_clock else clock, callers, number))


async def _run_tasks(store: Store, clock: ManualClock | None, callers: int, seed: int) -> None:
    """Let tasks work on one scope, and check the history."""
    scope, recorder, makers = f"tasks-{seed}", Recorder(), _makers(callers, seed)

    async def apply(command: Command) -> Applied:
        return await store.aapply(scope, command)

    async def call(number: int) -> None:
        choices = random.Random(f"{seed}-pauses-{number}")
        for _ in range(_COMMANDS_PER_SCOPE):
            if clock is not None:
                clock.advance(choices.choice(_PAUSES_S))
            await recorder.arecord(makers[number].next()[0], apply)
            await asyncio.sleep(0)

    await recorder.arecord(makers[0].opening(), apply)
    await asyncio.gather(*map(call, range(callers)))
    await leave_loop(store)
    check_history(recorder.events, read_books(store, scope))


def _rounds(commands: int) -> int:
    """Return how many scopes it takes for each caller to give this many commands."""
    return max(1, -(-commands // _COMMANDS_PER_SCOPE))


def _makers(callers: int, seed: int) -> list[Commands]:
    """Return a maker of commands for each caller; they share agents and keys, not holds."""
    closes, unit = seed % 4 == 1, "usd" if seed % 3 == 1 else "tokens"
    return [
        Commands(random.Random(f"{seed}-{number}"), f"caller{number}-", closes=closes, unit=unit)
        for number in range(callers)
    ]


def _check_unknown_scope(store: Store) -> None:
    """Check that looking does not make a scope."""
    for _ in range(2):
        expect(store.read("never"), None, "the statement of a scope that never was")
        expect(store.journal("never"), (), "the journal of a scope that never was")
        expect(store.resolve("never", "key"), None, "a key in a scope that never was")
        expect("never" in store.scopes(), False, "whether a scope that never was is listed")


def _check_scopes(store: Store) -> None:
    """Check that scopes are listed, sorted, whatever they are called."""
    names = ("b", "a/{odd}", "Ä", "}{", "100%7D", "*", "a")
    before = set(store.scopes())
    for name in names:
        store.apply(name, Open(()))
    expect(store.scopes(), tuple(sorted(before | set(names))), "the scopes")
