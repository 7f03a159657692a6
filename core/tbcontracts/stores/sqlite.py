"""The SQLite store: books in one file, shared by the processes of a host, safe in a power cut.

A durable write is slow, but one transaction pays for many commands. So each caller puts its command
in line and waits for the pen; whoever gets it carries out all that is in line, in one transaction
and with the rules themselves, and the others find theirs done. Between processes a lock on a file
beside the database gives turns; SQLite's own way of waiting is to sleep and try again, which lets
some starve.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import StoreError, TBCError
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.stores import sqlite_books
from tbcontracts.stores.base import Applied, Clock
from tbcontracts.stores.sqlite_books import ScopeRows
from tbcontracts.stores.sqlite_file import Ledger, SqliteOptions

T = TypeVar("T")

BATCH_MOST = 64
SCOPES_KEPT = 256

_forked = threading.Lock()
_inherited: list[object] = []
"""What a forked child got from its parent and must neither use nor close."""


class _Job:
    """A command in line, and what came of it."""

    __slots__ = ("_asleep", "command", "outcome", "scope")

    def __init__(self, scope: str, command: Command) -> None:
        self.scope = scope
        self.command = command
        self.outcome: Applied | Exception | None = None
        self._asleep = threading.Lock()  # held, so that whoever waits for it sleeps
        self._asleep.acquire()

    def wait(self) -> None:
        """Sleep until somebody wakes this job's owner."""
        self._asleep.acquire()

    def wake(self) -> None:
        """Wake its owner, now or when it goes to sleep."""
        with suppress(RuntimeError):  # it was woken already
            self._asleep.release()


class SqliteStore:
    """Keeps books in a SQLite file.

    Args:
        options: The file, and how it is opened.
        clock: Returns seconds since the epoch. Processes of one host share its clock; a scope's
            time never runs backwards.

    Raises:
        StoreError: The file cannot be used.
    """

    in_process = True
    durable = True

    _pen: threading.Lock
    _pid: int
    _line: deque[_Job]
    _kept: OrderedDict[str, ScopeRows]
    _ledger: Ledger

    def __init__(self, options: SqliteOptions, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or time.time
        self._begin()

    @classmethod
    def from_url(cls, url: str, *, clock: Clock | None = None) -> SqliteStore:
        """Open the file that a URL names, `sqlite:///budget.db`; see `SqliteOptions.from_url`."""
        return cls(SqliteOptions.from_url(url), clock=clock)

    # --- commands ---------------------------------------------------------------------------------

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once it is safe in the file."""
        if self._options.read_only:
            msg = f"The ledger {self._options.path} was opened for reading only."
            raise StoreError(msg, remedy="What helps: the URL without mode=ro.")
        self._here()
        job = _Job(scope, command)
        self._line.append(job)
        while job.outcome is None:
            if self._pen.acquire(blocking=False):
                try:
                    self._commit(self._next_batch())
                finally:
                    self._pen.release()
                self._wake_first()
            else:
                job.wait()
        if isinstance(job.outcome, Exception):
            raise job.outcome
        return job.outcome

    def _next_batch(self) -> list[_Job]:
        """Take from the line what goes into one transaction.

        Those who were just answered are on their way to ask again: while more come in, they are
        worth letting run, because one transaction serves all of them.
        """
        waiting = 0
        while waiting < len(self._line) < BATCH_MOST:
            waiting = len(self._line)
            time.sleep(0)
        return [self._line.popleft() for _ in range(min(len(self._line), BATCH_MOST))]

    def _wake_first(self) -> None:
        """Let the first in line take the pen, if it went to sleep while this thread had it."""
        with suppress(IndexError):  # nobody is in line
            self._line[0].wake()

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; the event loop goes on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.apply, scope, command)

    def _commit(self, batch: list[_Job]) -> None:
        """Carry out commands in one transaction, then say what came of each."""
        outcomes: list[Applied | Exception] = []
        touched: dict[str, list[JournalEntry]] = {}
        try:
            with self._ledger.writing() as db:
                outcomes.extend(self._carry_out(db, job, touched) for job in batch)
                for scope, entries in touched.items():
                    self._kept[scope].write(db, entries)
        except BaseException as error:  # whatever it is: nothing was written, and all are told
            for job in batch:
                self._kept.pop(job.scope, None)
            outcomes = [self._failure(error) for _ in batch]
            if not isinstance(error, Exception):
                raise  # an interrupt belongs to the thread that had the pen
        finally:
            for job, outcome in zip(batch, outcomes, strict=True):
                job.outcome = outcome
                job.wake()
        while len(self._kept) > SCOPES_KEPT:
            self._kept.popitem(last=False)

    def _carry_out(
        self, db: sqlite3.Connection, job: _Job, touched: dict[str, list[JournalEntry]]
    ) -> Applied | Exception:
        """Carry out one command on the books; what it breaks, it alone is told."""
        rows = self._kept.get(job.scope)
        if rows is None:
            rows = self._kept[job.scope] = ScopeRows(job.scope)
        self._kept.move_to_end(job.scope)
        now = self._clock()
        if job.scope not in touched:
            rows.refresh(db, now)
        rows.bring_in(db, job.command)
        entries = touched.setdefault(job.scope, [])
        outcome: Reply | Exception
        try:
            outcome = step(rows.books, job.command, now)
        except (TBCError, TypeError, ValueError) as error:  # the rules refuse it: nothing changed
            outcome = error
        written = tuple(rows.books.journal)
        rows.books.journal.clear()
        rows.note(job.command, written)
        entries.extend(written)
        return outcome if isinstance(outcome, Exception) else Applied(outcome, written)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        return self._read(lambda db: sqlite_books.statement(db, scope))

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment; reading a local file is not worth a thread."""
        return self.read(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        return self._read(lambda db: sqlite_books.journal(db, scope, after_seq))

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        return self.journal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        now = self._clock()
        return self._read(lambda db: sqlite_books.reply_to(db, scope, key, now))

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        return self.resolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes in the file, in the order of their first use."""
        query = "SELECT name FROM scope ORDER BY id"
        return self._read(lambda db: tuple(row[0] for row in db.execute(query)))

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        self._here()
        with self._told(), self._ledger.reading() as db:
            return ask(db)

    # --- the rest ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def close(self) -> None:
        """Let go of the file."""
        self._here()
        with self._pen:
            self._ledger.close()

    def _begin(self) -> None:
        """Open the file in this process."""
        self._pen = threading.Lock()
        self._pid = os.getpid()
        self._line = deque()
        self._kept = OrderedDict()
        with self._told():
            self._ledger = Ledger(self._options)

    def _here(self) -> None:
        """In a forked child open the file anew: nothing of the parent's may be used or closed."""
        if self._pid == os.getpid():
            return
        with _forked:  # the parent may have held this store's own lock when it forked
            if self._pid != os.getpid():
                _inherited.append(dict(vars(self)))
                self._begin()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite and the file system say into the error that a store raises."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> StoreError:
        if isinstance(error, StoreError):
            return error
        msg = f"The ledger {self._options.path} did not answer: {error}. Nothing was written."
        return StoreError(msg, remedy="What helps: see that the file can be written; then again.")
