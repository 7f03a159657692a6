"""The live view: the same numbers while they move, from a store that is watched or a manager."""

from __future__ import annotations

import copy
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tbcontracts.books import Statement
from tbcontracts.checks import check_shares
from tbcontracts.events import JournalEntry
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
        warn_at: Shares of an agent's budget, above 0 and up to 1, whose passing is told.

    Raises:
        TypeError: `warn_at` is no list.
        ValueError: A threshold is no number above 0 and up to 1.
    """

    def __init__(self, scope: str, statement: Statement, *, warn_at: Sequence[float] = ()) -> None:
        self.scope = scope
        self.unit = unit_of(statement)
        self.warn_at = check_shares(warn_at, "warn_at")
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
