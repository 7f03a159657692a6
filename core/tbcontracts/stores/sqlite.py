"""The SQLite store: books in one file, shared by the processes of a host, safe in a power cut.

Commands wait in line, and one transaction carries out all that are there (`stores.line`), with the
rules themselves (`stores.rows`). Between processes a lock on a file beside the database gives
turns: SQLite's own way of waiting, to sleep and try again, lets some starve.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

from tbcontracts.books import Statement
from tbcontracts.checks import as_sentence
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores import rows
from tbcontracts.stores.base import About, Applied, Capabilities, Clock, only_read
from tbcontracts.stores.line import Clerks, Job, Line
from tbcontracts.stores.rows import UNKNOWN, ScopeRows
from tbcontracts.stores.sql import Statements
from tbcontracts.stores.sqlite_file import Ledger, SqliteOptions, about
from tbcontracts.stores.sqlite_looking import WrittenMeanwhileError

T = TypeVar("T")

SCOPES_KEPT = 256
LOOKS_MOST = 5
_SQL = Statements()
_forked = threading.Lock()
_inherited: list[object] = []
"""What a forked child got from its parent and must neither use nor close."""


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

    _pid: int
    _clerks: Clerks
    _line: Line
    _kept: OrderedDict[str, ScopeRows]
    _ledger: Ledger

    def __init__(self, options: SqliteOptions, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or time.time
        self._begin()

    @classmethod
    def from_url(
        cls, url: str, *, clock: Clock | None = None, read_only: bool = False
    ) -> SqliteStore:
        """Open the file that a URL names, `sqlite:///budget.db`; see `SqliteOptions.from_url`."""
        return cls(SqliteOptions.from_url(url, read_only=read_only), clock=clock)

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises, as it was opened."""
        durability: Literal["process", "power"] = (
            "power" if self._options.synchronous == "full" else "process"
        )
        return Capabilities(durability=durability, cross_process="host", witness=True)

    # --- commands ---------------------------------------------------------------------------------

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once it is safe in the file."""
        return self._writable().carry_out(scope, command)

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; the event loop goes on meanwhile.

        Cancelled before its turn, it is not carried out.
        """
        return await self._writable().acarry_out(scope, command)

    def _writable(self) -> Line:
        """Return where to stand in line.

        Raises:
            StoreError: The ledger is only read.
        """
        if self._options.read_only:
            raise only_read(str(self._options.path))
        self._here()
        return self._line

    def _commit(self, batch: list[Job]) -> list[Applied | Exception]:
        """Carry out commands in one transaction."""
        touched: dict[str, ScopeRows] = {}
        try:
            with self._ledger.writing() as db:
                outcomes = [self._carry_out(db, job, touched) for job in batch]
                for books in touched.values():
                    _write(db, books, self._options.keep_days)
        except BaseException:
            for scope in touched:  # what is kept of them may be ahead of the file
                del self._kept[scope]
            raise
        while len(self._kept) > SCOPES_KEPT:
            self._kept.popitem(last=False)
        return outcomes

    def _carry_out(
        self, db: sqlite3.Connection, job: Job, touched: dict[str, ScopeRows]
    ) -> Applied | Exception:
        """Carry out one command on the books."""
        books = touched.get(job.scope)
        if books is None:
            books = touched[job.scope] = self._kept.setdefault(job.scope, ScopeRows())
            self._kept.move_to_end(job.scope)
            _refresh(db, job.scope, books)
        key, hold_id = books.lacks(job.command)
        if key is not None:
            for row in db.execute(_SQL.key, (books.scope_id, key)):
                books.read_key(key, row)
        if hold_id is not None:
            for row in db.execute(_SQL.hold, (books.scope_id, hold_id)):
                books.read_hold(row)
        return books.carry_out(job.command, self._clock())

    # --- reading ----------------------------------------------------------------------------------

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""

        def ask(db: sqlite3.Connection) -> Statement | None:
            row = db.execute(_SQL.scope, (scope,)).fetchone()
            return row and rows.statement(row, db.execute(_SQL.accounts, (row[0], UNKNOWN)))

        return self._read(ask)

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment; reading a local file is not worth a thread."""
        return self.read(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""

        def ask(db: sqlite3.Connection) -> tuple[JournalEntry, ...]:
            row = db.execute(_SQL.scope, (scope,)).fetchone()
            found = () if row is None else db.execute(_SQL.journal, (row[0], after_seq))
            return tuple(rows.entry(entry) for entry in found)

        return self._read(ask)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        return self.journal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""

        def ask(db: sqlite3.Connection) -> Reply | None:
            row = db.execute(_SQL.scope, (scope,)).fetchone()
            found = row and db.execute(_SQL.key, (row[0], key)).fetchone()
            return found and rows.reply_in(found, self._clock())

        return self._read(ask)

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        return self.resolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes in the file, sorted."""
        return self._read(lambda db: tuple(sorted(row[0] for row in db.execute(_SQL.scopes))))

    def about(self) -> About:
        """Return what there is to know of the file."""

        def ask(db: sqlite3.Connection) -> About:
            return about(db, self._options.path, db.execute(_SQL.count_entries).fetchone()[0])

        return self._read(ask)

    def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        self._here()
        for _ in range(LOOKS_MOST):
            with suppress(WrittenMeanwhileError):
                return self._look(ask)
        msg = f"The ledger {self._options.path} was written while it was read, again and again."
        raise StoreError(msg, remedy="What helps: to look again.")

    def _look(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with self._told(), self._ledger.reading() as db:
            return ask(db)

    # --- the rest ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock()

    def close(self) -> None:
        """Let go of the file."""
        self._here()
        with self._line.alone():
            self._ledger.close()
        self._clerks.dismiss()

    def _begin(self) -> None:
        """Open the file in this process."""
        self._pid = os.getpid()
        self._clerks = Clerks(1)
        self._line = Line(self._commit, self._failure, self._clerks)
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
        said = as_sentence(str(error))
        if self._options.read_only:
            msg = f"The ledger {self._options.path} cannot be read: {said}"
            return StoreError(msg, remedy="What helps: see that it is whole, and may be read.")
        msg = f"The ledger {self._options.path} did not answer: {said} Nothing was written."
        return StoreError(msg, remedy="What helps: see that the file can be written; then again.")


def _refresh(db: sqlite3.Connection, scope: str, books: ScopeRows) -> None:
    """Read what other processes have changed; a scope comes to be when it is first named."""
    row = db.execute(_SQL.scope, (scope,)).fetchone()
    if row is None:
        db.execute(_SQL.new_scope, (scope,))
        row = db.execute(_SQL.scope, (scope,)).fetchone()
    scope_id, version = row[0], books.version
    if version == row[1]:
        return
    holds = (
        db.execute(_SQL.open_holds, (scope_id,))
        if version == UNKNOWN
        else db.execute(_SQL.holds, (scope_id, version))
    )
    books.read(row, db.execute(_SQL.accounts, (scope_id, version)), holds)


def _write(db: sqlite3.Connection, books: ScopeRows, keep_days: float | None) -> None:
    """Write what was changed, and drop what is kept no longer."""
    changes = books.changes()
    db.execute(_SQL.put_scope, changes.scope)
    db.executemany(_SQL.put_account, changes.accounts)
    db.executemany(_SQL.put_hold, changes.holds)
    db.executemany(_SQL.put_key, changes.keys)
    db.executemany(_SQL.put_entry, changes.entries)
    now = books.books.now
    db.execute(_SQL.drop_keys, (books.scope_id, now))
    for text, values in _SQL.forgetting(books.scope_id, books.version, now, keep_days):
        db.execute(text, values)
    books.written()
