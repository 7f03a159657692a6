"""The live view: the same numbers while they move, from a store that is watched or a manager."""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TextIO

from tbcontracts.books import Statement
from tbcontracts.checks import check_score
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.manager import BudgetManager
from tbcontracts.report.replay import Line, Replay
from tbcontracts.report.view import unit_of

LAST_EVENTS = 8
Read = Callable[[int], tuple[Statement, Sequence[JournalEntry]]]
"""Given the last `seq` that is known, returns the books and the entries after it."""


class Crossed(NamedTuple):
    """A threshold that an agent's consumption has passed; told once."""

    agent: str
    threshold: float
    consumed: int
    allocated: int


class Frame(NamedTuple):
    """What a live view shows at one moment; nothing in it changes any more."""

    scope: str
    unit: str
    seq: int
    closed: bool
    pool: int
    total: int
    consumed: int
    lines: tuple[Line, ...]
    """The agents, the most important first."""
    denials: Mapping[str, int]
    last: tuple[JournalEntry, ...]
    warnings: tuple[Crossed, ...]
    """All that were told so far."""


class LiveBooks:
    """The books as a live view follows them: begun with a statement, moved on by entries.

    Args:
        scope: The name of the books.
        statement: The books as they are.
        warn_at: Shares of an agent's budget, from 0 to 1, whose passing is told.

    Raises:
        TypeError: A threshold is no number.
        ValueError: A threshold is not between 0 and 1.
    """

    def __init__(self, scope: str, statement: Statement, *, warn_at: Iterable[float] = ()) -> None:
        self.scope = scope
        self.unit = unit_of(statement)
        self.warn_at = tuple(sorted({check_score(one, "warn_at") for one in warn_at}))
        self._lock = threading.RLock()  # one thread hears, another one draws
        self._warnings: list[Crossed] = []
        self._last: deque[JournalEntry] = deque(maxlen=LAST_EVENTS)
        self.seed(statement)

    def seed(self, statement: Statement) -> None:
        """Put a statement in the place of what was known."""
        with self._lock:
            self.seq = statement.seq
            self.closed = statement.closed
            self._replay = Replay(statement, ())
            self._replay.pool = statement.pool
            self._denials = Counter({one.agent: one.denials for one in statement.accounts})

    def hear(self, entry: JournalEntry) -> bool:
        """Take an entry; return False if entries before it are missing, and a statement is needed.

        One that a statement told of before is kept as an event only.
        """
        with self._lock:
            self._last.append(entry)
            if entry.seq > self.seq + 1:
                return False
            if entry.seq == self.seq + 1:
                self.seq = entry.seq
                self._replay.hear(entry)
                self.closed = self.closed or entry.kind == "closed"
                if entry.kind in ("denied", "would_deny"):
                    self._denials[str(entry.agent)] += 1
            return True

    @property
    def refused(self) -> int:
        """How many calls were refused, as far as is known."""
        return self._denials.total()

    def crossed(self) -> list[Crossed]:
        """Return the thresholds that were passed since the last time; each is told once."""
        with self._lock:
            told = {(one.agent, one.threshold) for one in self._warnings}
            new = [
                Crossed(line.agent, threshold, line.numbers.consumed, line.numbers.allocated)
                for line in self._lines()
                if line.numbers is not None and not line.tracked
                for threshold in self.warn_at
                if line.numbers.consumed >= threshold * line.numbers.allocated > 0
                and (line.agent, threshold) not in told
            ]
            self._warnings += new
            return new

    def frame(self) -> Frame:
        """Return what is to be seen now."""
        with self._lock:
            return Frame(
                scope=self.scope,
                unit=self.unit,
                seq=self.seq,
                closed=self.closed,
                pool=self._replay.pool or 0,
                total=self._replay.total,
                consumed=self._replay.consumed or 0,
                lines=tuple(map(copy.copy, self._lines())),
                denials=dict(self._denials),
                last=tuple(self._last),
                warnings=tuple(self._warnings),
            )

    def _lines(self) -> list[Line]:
        found = self._replay.lines.values()
        return sorted(found, key=lambda line: (line.tracked, -(line.priority or 0), line.agent))


class Display(Protocol):
    """Shows what changes."""

    def begin(self, books: LiveBooks, crossed: Sequence[Crossed]) -> None:
        """Show the books as they are found."""
        ...

    def change(self, entries: Sequence[JournalEntry], crossed: Sequence[Crossed]) -> None:
        """Show what happened since."""
        ...

    def trouble(self, text: str) -> None:
        """Say that the store does not answer."""
        ...

    def end(self, why: str) -> None:
        """Say why nothing more will be shown."""
        ...


def follow(
    books: LiveBooks,
    read: Read,
    display: Display,
    *,
    every_s: float = 1.0,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show a scope until it is closed.

    A store that does not answer is asked again; that is said once, and again after it answered.

    Args:
        books: The books, as they were found.
        read: Reads what is new.
        display: Shows it.
        every_s: Seconds between two looks.
        sleep: Waits; for tests.
    """
    display.begin(books, books.crossed())
    silent = False
    while not books.closed:
        sleep(every_s)
        try:
            statement, entries = read(books.seq)
        except StoreError as error:
            if not silent:
                display.trouble(str(error))
            silent = True
            continue
        silent = False
        refused = sum(account.denials for account in statement.accounts)
        if statement.seq == books.seq and refused == books.refused:
            continue
        news = [entry for entry in entries if books.seq < entry.seq <= statement.seq]
        for entry in news:
            books.hear(entry)
        books.seed(statement)  # repeated refusals write no entry, and some may have been dropped
        display.change(news, books.crossed())
    display.end("the scope is closed")


@contextlib.contextmanager
def live_view(
    manager: BudgetManager, *, warn_at: Iterable[float] = (), file: TextIO | None = None
) -> Iterator[LiveBooks]:
    """Show the books of a manager while a block runs.

    With `rich` and a terminal it is a table that moves, otherwise one line for each change. It
    hears of changes as a listener, after the fact, and delays no call.

    Args:
        manager: Whose books; entries of its other scopes are left out.
        warn_at: Shares of an agent's budget, from 0 to 1; passing one is told once.
        file: Where to; standard error if it is left out.

    Raises:
        TypeError: A threshold is no number.
        ValueError: A threshold is not between 0 and 1.

    Example:
        `with live_view(manager, warn_at=[0.8, 0.95]): manager.record_usage("writer", 10)`
    """
    from tbcontracts.report.displays import display_for

    scope = manager.scope_name
    books = LiveBooks(scope, manager.statement(), warn_at=warn_at)
    began_at = books.seq
    display = display_for(file or sys.stderr)

    def listen(of_scope: str, entry: JournalEntry) -> None:
        if of_scope != scope or entry.seq <= began_at:
            return
        if not books.hear(entry):  # others write to these books too
            books.seed(manager.scope(scope).statement())
        display.change([entry], books.crossed())

    remove = manager.add_listener(listen)
    try:
        display.begin(books, books.crossed())
        yield books
    finally:
        manager.flush_listeners(_LAST_WORDS_S)
        remove()
        display.end("the view ended")


_LAST_WORDS_S = 2.0
