"""The memory store: the rules themselves, one lock per scope.

Atomic for all threads of a process. It loses everything when the process ends; it keeps the last
10,000 journal entries and ended holds of a scope (account totals stay exact for ever), drops closed
scopes beyond 1,000 and scopes that were idle for 24 hours. None goes while a hold is open whose
limit has not passed, and no idle one before its keys are forgotten. Whoever comes back to a scope
that was dropped finds new books there.

What comes in the middle of a command on the same thread (`stores.interrupted`) is carried out right
after it.
"""

from __future__ import annotations

import threading
import time
from itertools import islice

from tbcontracts.books import JOURNAL_ENTRIES_MAX, Books, Statement, state_of
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.stores.base import Applied, Capabilities, Clock
from tbcontracts.stores.interrupted import answer_now, note_failure

CLOSED_SCOPES_MAX = 1_000
IDLE_S = 24 * 3600.0
_TIDY_EVERY = 256


class _Shelf:
    """One scope's books with their lock."""

    __slots__ = ("books", "dropped", "interrupting", "lock")

    def __init__(self, journal_entries_max: int) -> None:
        self.lock = threading.RLock()
        self.dropped = False  # nobody finds these books any more: what is written here is lost
        # While a command is carried out: what the same thread asked for in the middle of it.
        self.interrupting: tuple[Command, ...] | None = None
        self.books = Books(journal_entries_max=journal_entries_max)


class MemoryStore:
    """Keeps books in this process.

    Args:
        clock: Returns seconds since the epoch.
        journal_entries_max: How many journal entries each scope keeps; 0 keeps none.
    """

    in_process = True
    durable = False
    capabilities: Capabilities = Capabilities(durability="none", cross_process="none", witness=True)

    def __init__(
        self, *, clock: Clock | None = None, journal_entries_max: int = JOURNAL_ENTRIES_MAX
    ) -> None:
        self._clock = clock or time.time
        self._journal_entries_max = journal_entries_max
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.RLock()
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
                if shelf.interrupting is not None:
                    answer = answer_now(command, books.seq)
                    shelf.interrupting = (*shelf.interrupting, command)
                    return answer
                if shelf.dropped:
                    continue
                shelf.interrupting = ()
                before = books.seq
                late: tuple[JournalEntry, ...] = ()
                try:
                    reply = step(books, command, self._clock())
                    entries = _written(books, before)
                finally:
                    while shelf.interrupting:
                        late += self._catch_up(shelf)
                    shelf.interrupting = None
            return Applied(reply, entries + late if late else entries)

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
        """Return the names of the scopes that are kept, sorted."""
        with self._lock:
            return tuple(sorted(self._shelves))

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def close(self) -> None:
        """Forget everything."""
        shelves, self._shelves = self._shelves, {}
        for shelf in shelves.values():
            shelf.dropped = True

    def _catch_up(self, shelf: _Shelf) -> tuple[JournalEntry, ...]:
        """Carry out what came in the middle of a command; return what it wrote."""
        commands, shelf.interrupting = shelf.interrupting or (), ()
        before = shelf.books.seq
        for command in commands:
            self._try(shelf.books, command)
        return _written(shelf.books, before)

    def _try(self, books: Books, command: Command) -> None:
        """Carry out a command whose caller went on already; nobody else may suffer for it."""
        try:
            step(books, command, self._clock())
        except Exception:
            note_failure()

    def _new_shelf(self, scope: str) -> _Shelf:
        """Add a scope, unless somebody just did."""
        with self._lock:
            self._opened += 1
            if self._opened % _TIDY_EVERY == 0:
                self._tidy()
            shelf = _Shelf(self._journal_entries_max)
            shelf.books.now = self._clock()
            return self._shelves.setdefault(scope, shelf)

    def _tidy(self) -> None:
        """Drop idle scopes, and of the closed ones those that rest longest."""
        now = self._clock()
        closed: list[tuple[float, str, _Shelf]] = []
        for scope, shelf in list(self._shelves.items()):
            if shelf.books.now < now - IDLE_S:
                self._drop(scope, shelf, now, idle=True)
            elif shelf.books.closed:
                closed.append((shelf.books.now, scope, shelf))
        closed.sort(key=lambda one: one[0])
        for _, scope, shelf in closed[: max(0, len(closed) - CLOSED_SCOPES_MAX)]:
            self._drop(scope, shelf, now, idle=False)

    def _drop(self, scope: str, shelf: _Shelf, now: float, *, idle: bool) -> None:
        """Drop a scope, unless somebody uses it or may come back to it.

        A command that comes in meanwhile is either on the books before they are judged, or finds
        them dropped and begins again. It is never waited for: it may itself wait for this store.
        """
        if not shelf.lock.acquire(blocking=False):
            return
        try:
            in_use = shelf.interrupting is not None or (idle and shelf.books.now >= now - IDLE_S)
            if not in_use and not shelf.books.is_awaited(now, keys=idle):
                shelf.dropped = True
                if self._shelves.get(scope) is shelf:
                    del self._shelves[scope]
        finally:
            shelf.lock.release()


def _written(books: Books, after_seq: int) -> tuple[JournalEntry, ...]:
    """Return the entries after a number that are still kept."""
    written = books.seq - after_seq
    if not written:
        return ()
    if written == 1 and books.journal:
        return (books.journal[-1],)
    return tuple(islice(reversed(books.journal), written))[::-1]
