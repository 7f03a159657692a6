"""A transaction on PostgreSQL as two trips to the server, written once for both kinds of drivers.

The first trip takes the lock on the scope's row and brings what others have changed; the rules
decide here; the second trip writes and commits. A plan is a generator: it yields the queries of a
trip and is sent their rows. Who runs it, and whether it awaits, is not its business.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores import rows
from tbcontracts.stores.base import Applied
from tbcontracts.stores.rows import UNKNOWN, Row, ScopeRows
from tbcontracts.stores.sql import Statements


class Query(NamedTuple):
    """One statement with its values."""

    text: str
    values: Sequence[Any] = ()


Rows = list[list[Row]]
"""The rows of each query of a trip."""

T = TypeVar("T")
Plan = Generator[list[Query], Rows, T]
"""Yields the queries of each trip, is sent their rows, and returns what came of them."""

_TIME = "SELECT extract(epoch FROM clock_timestamp())::float8"
_NOW = f"{_TIME}, pg_current_xact_id()::text"


class Transaction:
    """Commands of one scope, carried out together.

    Args:
        sql: The statements.
        scope: The scope's name.
        books: What this process keeps of it.
        commands: What to do, in this order.
        clock: Returns the time where the server's is not to be used.
        keep_days: For how long journal entries and ended holds are kept; None is for ever.
    """

    def __init__(
        self,
        sql: Statements,
        scope: str,
        books: ScopeRows,
        commands: Sequence[Command],
        clock: Callable[[], float] | None = None,
        keep_days: float | None = None,
    ) -> None:
        self._sql = sql
        self._keep_days = keep_days
        self._scope = scope
        self._books = books
        self._commands = commands
        self._clock = clock
        self.now_s = 0.0
        """The server's time, once the first trip is back."""
        self.number: str | None = None
        """The server's number of this transaction; it tells what became of it if the answer to the
        commit is lost. None before the first trip is back: nothing was written then."""
        self.outcomes: list[Applied | Exception] = []
        """What comes of each command, once it is committed."""

    def plan(self) -> Plan[list[Applied | Exception]]:
        """Yield the queries of each trip; return what came of each command."""
        if self._books.version == UNKNOWN:
            yield from self._meet()
        else:
            yield from self._refresh()
        now = self.now_s if self._clock is None else self._clock()
        self.outcomes = [self._books.carry_out(command, now) for command in self._commands]
        yield [*self._writing(), Query("COMMIT")]
        self._books.written()
        return self.outcomes

    def _meet(self) -> Plan[None]:
        """Read the books of a scope that this process does not know; it may be new to all."""
        sql, scope = self._sql, (self._scope,)
        lock = [Query("BEGIN"), Query(sql.new_scope, scope), Query(sql.scope_locked, scope)]
        *_, found, when = yield [*lock, Query(_NOW)]
        self.now_s, self.number = when[0]
        scope_id = found[0][0]
        accounts = Query(sql.accounts, (scope_id, UNKNOWN))
        asked = self._asked(scope_id)
        answers = yield [accounts, Query(sql.open_holds, (scope_id,)), *asked]
        self._books.read(found[0], answers[0], answers[1])
        self._take_in(answers[2:])

    def _refresh(self) -> Plan[None]:
        """Read what others have changed since."""
        sql, scope_id, version = self._sql, self._books.scope_id, self._books.version
        since = (scope_id, version)
        answers = yield [
            Query("BEGIN"),
            Query(sql.scope_locked, (self._scope,)),
            Query(_NOW),
            Query(sql.accounts, since),
            Query(sql.holds, since),
            *self._asked(scope_id),
        ]
        _, found, when, accounts, holds, *asked = answers
        self.now_s, self.number = when[0]
        self._books.read(found[0], accounts, holds)
        self._take_in(asked)

    def _asked(self, scope_id: int) -> list[Query]:
        """Return the queries for what the commands speak of: a key and a hold for each."""
        queries: list[Query] = []
        for command in self._commands:
            key, hold_id = self._books.lacks(command)
            queries += [Query(self._sql.key, (scope_id, key))] if key is not None else []
            queries += [Query(self._sql.hold, (scope_id, hold_id))] if hold_id is not None else []
        return queries

    def _take_in(self, answers: Sequence[list[Row]]) -> None:
        """Take in what was asked for, in the same order."""
        left = iter(answers)
        lacking = [self._books.lacks(command) for command in self._commands]
        for key, hold_id in lacking:
            if key is not None:
                for row in next(left):
                    self._books.read_key(key, row)
            if hold_id is not None:
                for row in next(left):
                    self._books.read_hold(row)

    def _writing(self) -> list[Query]:
        sql, changes, now = self._sql, self._books.changes(), self._books.books.now
        scope_id, version = self._books.scope_id, self._books.version
        return [
            Query(sql.put_scope, changes.scope),
            *(Query(sql.put_account, row) for row in changes.accounts),
            *(Query(sql.put_hold, row) for row in changes.holds),
            *(Query(sql.put_key, row) for row in changes.keys),
            *(Query(sql.put_entry, row) for row in changes.entries),
            Query(sql.drop_keys, (scope_id, now)),
            *(Query(*one) for one in sql.forgetting(scope_id, version, now, self._keep_days)),
        ]


def statement(sql: Statements, scope: str) -> Plan[Statement | None]:
    """Read a scope's books at one moment."""
    (found,) = yield [Query(sql.scope, (scope,))]
    if not found:
        return None
    # One statement sees one moment: the scope's row is read again beside its accounts.
    both = Query(sql.scope_and_accounts, (found[0][0],))
    (joined,) = yield [both]
    scope_row = joined[0][: len(found[0])]
    accounts = [row[len(found[0]) :] for row in joined if row[len(found[0])] is not None]
    return rows.statement(scope_row, accounts)


def journal(sql: Statements, scope: str, after_seq: int) -> Plan[tuple[JournalEntry, ...]]:
    """Read a scope's journal entries after `after_seq`, oldest first."""
    (found,) = yield [Query(sql.scope, (scope,))]
    if not found:
        return ()
    (entries,) = yield [Query(sql.journal, (found[0][0], after_seq))]
    return tuple(rows.entry(row) for row in entries)


def reply_to(
    sql: Statements, scope: str, key: str, clock: Callable[[], float] | None
) -> Plan[Reply | None]:
    """Read the first reply to a key."""
    found, when = yield [Query(sql.scope, (scope,)), Query(_TIME)]
    if not found:
        return None
    (answers,) = yield [Query(sql.key, (found[0][0], key))]
    now = when[0][0] if clock is None else clock()
    return rows.reply_in(answers[0], now) if answers else None


def scopes(sql: Statements) -> Plan[tuple[str, ...]]:
    """Read the names of all scopes, sorted as Python sorts them: databases have other orders."""
    (found,) = yield [Query(sql.scopes)]
    return tuple(sorted(row[0] for row in found))


def time_there() -> Plan[float]:
    """Ask for the server's time."""
    ((row,),) = yield [Query(_TIME)]
    return float(row[0])


def became_of(number: str) -> Plan[str | None]:
    """Ask what became of a transaction: "committed", "aborted", "in progress"; None if too old."""
    ((row,),) = yield [Query("SELECT pg_xact_status(%s::xid8)", (number,))]
    return row[0] if row[0] is None else str(row[0])
