"""Concurrent histories: who asked what when, and whether one order of it all explains the answers.

Every entry of a journal has its number, so commands that wrote something have an order already. It
is replayed in the reference, not searched for. Commands that wrote nothing (a refusal that was only
counted, a key used again, an error) must fit somewhere between those that ended before they were
asked and those that were asked after they ended.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import TBCError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied
from tbcontracts.testing.audit import Audit
from tbcontracts.testing.checking import ConformanceError
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import difference, outcome


class Event(NamedTuple):
    """One command of a history."""

    command: Command
    result: object
    """The reply, or the kind of the error."""
    entries: tuple[JournalEntry, ...]
    invoked: int
    returned: int


class Recorder:
    """Takes down the commands that many callers give to a store at the same time.

    Args:
        ticks: Numbers that tell what came first; one step for all threads. For several processes
            those of a clock that they share.
    """

    def __init__(self, ticks: Iterator[int] | None = None) -> None:
        self.events: list[Event] = []
        self._ticks = itertools.count(1) if ticks is None else ticks

    def record(self, command: Command, apply: Callable[[Command], Applied]) -> None:
        """Carry out a command and take down what came of it."""
        invoked = next(self._ticks)
        try:
            applied = apply(command)
        except (TBCError, TypeError, ValueError) as error:
            self._add(command, type(error), (), invoked)
        else:
            self._add(command, applied.reply, applied.entries, invoked)

    async def arecord(
        self, command: Command, apply: Callable[[Command], Awaitable[Applied]]
    ) -> None:
        """Do the same for a store that is awaited."""
        invoked = next(self._ticks)
        try:
            applied = await apply(command)
        except (TBCError, TypeError, ValueError) as error:
            self._add(command, type(error), (), invoked)
        else:
            self._add(command, applied.reply, applied.entries, invoked)

    def _add(
        self, command: Command, result: object, entries: tuple[JournalEntry, ...], invoked: int
    ) -> None:
        self.events.append(Event(command, result, entries, invoked, next(self._ticks)))


def check_history(events: Sequence[Event], statement: Statement) -> None:
    """Check that a history from the first command of a scope on has an order that explains it.

    Args:
        events: All commands that were given to the scope.
        statement: The books after the last one.

    Raises:
        ConformanceError: No order does, or the order that the journal tells is another one.
        BrokenPromiseError: The journal breaks a promise.
    """
    writers = sorted((event for event in events if event.entries), key=_first_seq)
    _check_real_time(writers)
    replay = _Replay(writers, [event for event in events if not event.entries])
    audit = Audit()
    for event in writers:
        replay.place_silent()
        replay.write(event)
        for entry in event.entries:
            audit.hear(entry)
    replay.place_silent()
    replay.finish(statement)
    audit.compare(statement)


def _first_seq(event: Event) -> int:
    return event.entries[0].seq


def _check_real_time(writers: Sequence[Event]) -> None:
    """Check that nothing took effect before it was asked, as others saw it."""
    last_invoked: Event | None = None
    for event in writers:
        if last_invoked is not None and event.returned < last_invoked.invoked:
            msg = f"{event} had ended before {last_invoked} began, but stands after it."
            raise ConformanceError(msg)
        if last_invoked is None or event.invoked > last_invoked.invoked:
            last_invoked = event


class _Replay:
    """The reference, led through a history."""

    def __init__(self, writers: Sequence[Event], silent: Sequence[Event]) -> None:
        self._reference = Reference()
        by_end = sorted(writers, key=lambda event: event.returned)
        ends = [event.returned for event in by_end]
        seqs = list(itertools.accumulate((event.entries[-1].seq for event in by_end), max))
        # What wrote nothing waits from the last entry that it must have seen.
        self._waiting = [
            (seqs[before - 1] if (before := bisect_left(ends, event.invoked)) else 0, event)
            for event in silent
        ]
        self._waiting.sort(key=lambda one: one[0])

    def place_silent(self) -> None:
        """Carry out whatever wrote nothing and fits here; one may make room for another."""
        placed = True
        while placed:
            placed = False
            for number, (after_seq, event) in enumerate(self._waiting):
                if after_seq > self._reference.seq:
                    break
                if self._fits(event):
                    del self._waiting[number]
                    placed = True
                    break

    def _fits(self, event: Event) -> bool:
        """Carry out a command if the reference answers as the store did, without an entry."""
        if getattr(event.result, "seq", 0) > self._reference.seq:
            return False
        trial = self._reference.copy()
        result = outcome(lambda: trial.step(event.command, trial.now))
        if result != event.result or trial.seq != self._reference.seq:
            return False
        self._reference = trial
        return True

    def write(self, event: Event) -> None:
        """Carry out the command that wrote the next entries."""
        for _, silent in self._waiting:
            if silent.returned < event.invoked:
                msg = f"Nothing before {event} explains {silent}."
                raise ConformanceError(msg)
        reference, seq = self._reference, self._reference.seq
        expected = outcome(lambda: reference.step(event.command, event.entries[-1].at))
        written = [entry.seq for entry in event.entries]
        if expected != event.result or written != list(range(seq + 1, reference.seq + 1)):
            msg = f"{event} should be {expected!r} with the entries up to {reference.seq}."
            raise ConformanceError(msg)

    def finish(self, statement: Statement) -> None:
        """Compare the end of the history."""
        if self._waiting:
            msg = f"Nothing explains {self._waiting[0][1]}."
            raise ConformanceError(msg)
        nothing: Reply | None = None
        found = difference(nothing, nothing, statement, self._reference)
        if found:
            raise ConformanceError(found)
