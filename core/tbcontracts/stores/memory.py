"""The memory store: the rules themselves, one lock per scope.

Atomic for all threads of a process. It loses everything when the process ends; it keeps the last
10,000 journal entries and ended holds of a scope (account totals stay exact for ever), drops closed
scopes beyond 1,000 and scopes that were idle for 24 hours. None goes while a hold is open whose
limit has not passed, and no idle one before its keys are forgotten. Whoever comes back to a scope
that was dropped finds new books there.
"""

from __future__ import annotations

import threading
import time
from itertools import islice

from tbcontracts.books import JOURNAL_ENTRIES_MAX, Books, Statement, state_of
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.stores.base import Applied, Clock

CLOSED_SCOPES_MAX = 1_000
IDLE_S = 24 * 3600.0
_TIDY_EVERY = 256


class _Shelf:
    """One scope's books with their lock."""

    __slots__ = ("books", "dropped", "lock")

    def __init__(self, journal_entries_max: int) -> None:
        self.lock = threading.Lock()
        self.dropped = False  # nobody finds these books any more: what is written here is lost
        self.books = Books(journal_entries_max=journal_entries_max)


class MemoryStore:
    """Keeps books in this process.

    Args:
        clock: Returns seconds since the epoch.
        journal_entries_max: How many journal entries each scope keeps; 0 keeps none.
    """

    in_process = True
    durable = False

    def __init__(
        self, *, clock: Clock | None = None, journal_entries_max: int = JOURNAL_ENTRIES_MAX
    ) -> None:
        self._clock = clock or time.time
        self._journal_entries_max = journal_entries_max
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.Lock()
        self._opened = 0

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command on a scope's books.

        Returns:
            The reply and the entries, of which there are at most as many as the journal keeps.
        """
        while True:
            shelf = self._shelves.get(scope) or self._new_shelf(scope)
            books = shelf.books
            with shelf.lock:
                if shelf.dropped:
                    continue
                before = books.seq
                reply = step(books, command, self._clock())
                written = books.seq - before
                if not written:
                    return Applied(reply, ())
                if written == 1 and books.journal:
                    return Applied(reply, (books.journal[-1],))
                return Applied(reply, tuple(islice(reversed(books.journal), written))[::-1])

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; it takes microseconds, so the event loop does it itself."""
        return self.apply(scope, command)

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        shelf = self._shelves.get(scope)
        if shelf is None:
            return None
        with shelf.lock:
            return state_of(shelf.books)

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        return self.read(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        shelf = self._shelves.get(scope)
        if shelf is None:
            return ()
        with shelf.lock:
            return tuple(entry for entry in shelf.books.journal if entry.seq > after_seq)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        return self.journal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        shelf = self._shelves.get(scope)
        if shelf is None:
            return None
        with shelf.lock:
            remembered = shelf.books.keys.get(key)
            if remembered is None or remembered.until <= max(self._clock(), shelf.books.now):
                return None
        return remembered.reply

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        return self.resolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of the scopes that are kept."""
        with self._lock:
            return tuple(self._shelves)

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            for scope, shelf in list(self._shelves.items()):
                with shelf.lock:
                    self._drop(scope, shelf)

    def _new_shelf(self, scope: str) -> _Shelf:
        """Add a scope, unless another thread just did."""
        with self._lock:
            shelf = self._shelves.get(scope)
            if shelf is None:
                self._opened += 1
                if self._opened % _TIDY_EVERY == 0:
                    self._tidy()
                shelf = self._shelves[scope] = _Shelf(self._journal_entries_max)
                shelf.books.now = self._clock()
            return shelf

    def _tidy(self) -> None:
        """Drop idle scopes, and of the closed ones those that rest longest.

        Looks at all scopes without their locks, and again with them at those that may go: a command
        that comes in between is either on the books before they are judged, or finds them dropped
        and begins again.
        """
        now = self._clock()
        idle_since = now - IDLE_S
        closed: list[tuple[float, str, _Shelf]] = []
        for scope, shelf in list(self._shelves.items()):
            if shelf.books.now < idle_since:
                with shelf.lock:
                    idle = shelf.books.now < idle_since
                    if idle and not shelf.books.is_awaited(now, keys=True):
                        self._drop(scope, shelf)
            elif shelf.books.closed:
                closed.append((shelf.books.now, scope, shelf))
        closed.sort(key=lambda one: one[0])
        for _, scope, shelf in closed[: max(0, len(closed) - CLOSED_SCOPES_MAX)]:
            with shelf.lock:
                if not shelf.books.is_awaited(now, keys=False):
                    self._drop(scope, shelf)

    def _drop(self, scope: str, shelf: _Shelf) -> None:
        """Take a scope away; the caller has both locks."""
        shelf.dropped = True
        del self._shelves[scope]
