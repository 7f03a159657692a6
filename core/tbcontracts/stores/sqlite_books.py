"""The books of one scope between SQLite's rows and the `Books` that the rules work on.

A process keeps the books of a scope in memory: accounts and open holds. Before each command it
reads again what other processes have changed since, told by the version in every row, and what it
does not keep: the command's key and an ended hold. After it, it writes what has changed.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from tbcontracts.books import Account, Books, HoldRecord, Remembered, Statement, view
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores import codec

_ACCOUNT = (
    "agent, contract_json, tracked, place, finished, allocated, consumed, held, unmeasured, "
    "denials, expired_holds, confidence, buckets_json, denial_json"
)
_HOLD = "hold_id, agent, amount, charged, status, enforcement, expires_at_s, outcome_json"
_PUT_ACCOUNT = (
    "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_HOLD = "INSERT OR REPLACE INTO hold VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_KEY = "INSERT OR REPLACE INTO used_key VALUES (?, ?, ?, ?, ?)"
_PUT_ENTRY = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UNKNOWN = -1


class ScopeRows:
    """One scope's rows, and the books that this process keeps of them.

    Args:
        name: The scope.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.books = Books(journal_entries_max=None)
        self._scope_id = _UNKNOWN
        self._version = _UNKNOWN
        self._accounts: set[str] = set()  # what the commands since the last write may have changed
        self._holds: set[str] = set()
        self._keys: set[str] = set()
        self._places: dict[str, int] = {}  # of each account, in the order of opening

    # --- reading ----------------------------------------------------------------------------------

    def refresh(self, db: sqlite3.Connection, now: float) -> None:
        """Read what others have changed; must be inside the writing transaction."""
        row = _scope_row(db, self.name)
        if row is None:
            db.execute("INSERT INTO scope VALUES (NULL, ?, 0, 0, ?, 0, 0, 0)", (self.name, now))
            row = _scope_row(db, self.name)
            assert row is not None
        scope_id, version, *numbers = row
        if (scope_id, version) == (self._scope_id, self._version):
            return
        if scope_id != self._scope_id:
            self.books = Books(journal_entries_max=None)
            self._places.clear()
            self._scope_id, self._version = scope_id, _UNKNOWN
        books = self.books
        books.seq, books.now, books.pool, books.total, closed = numbers
        books.closed = bool(closed)
        for name, place, account in _accounts(db, scope_id, self._version):
            books.accounts[name] = account
            self._places[name] = place
            books.donors.touch(name, books.accounts)
        self._read_holds(db)
        self._version = version

    def _read_holds(self, db: sqlite3.Connection) -> None:
        """Read the open holds; at first all of them, later those that others have touched."""
        which = "status = 'open'" if self._version == _UNKNOWN else "version > ?"
        values = () if self._version == _UNKNOWN else (self._version,)
        query = f"SELECT {_HOLD} FROM hold WHERE scope_id = ? AND {which}"  # noqa: S608 - our words
        for row in db.execute(query, (self._scope_id, *values)):
            hold = _hold(row)
            if hold.status == "open":
                self._keep(hold)
            else:
                self.books.holds.pop(hold.hold_id, None)

    def _keep(self, hold: HoldRecord) -> None:
        self.books.holds[hold.hold_id] = hold
        if hold.status == "open":
            heapq.heappush(self.books.due, (hold.expires_at, hold.hold_id))

    def bring_in(self, db: sqlite3.Connection, command: Command) -> None:
        """Read what a command speaks of and the books do not keep: its key, and an ended hold."""
        key = getattr(command, "key", None)
        if key is not None and key not in self.books.keys:
            found = _remembered(db, self._scope_id, key)
            if found is not None:
                self.books.keys[key] = found
        hold_id = getattr(command, "hold_id", None)
        if hold_id is not None and hold_id not in self.books.holds:
            query = f"SELECT {_HOLD} FROM hold WHERE scope_id = ? AND hold_id = ?"  # noqa: S608 - ours
            row = db.execute(query, (self._scope_id, hold_id)).fetchone()
            if row is not None:
                self._keep(_hold(row))

    # --- writing ----------------------------------------------------------------------------------

    def note(self, command: Command, entries: Iterable[JournalEntry]) -> None:
        """Note what a command that was carried out may have changed."""
        self._accounts.update(_agents_in(command))
        key, hold_id = getattr(command, "key", None), getattr(command, "hold_id", None)
        self._keys.update((key,) if key is not None else ())
        self._holds.update((hold_id,) if hold_id is not None else ())
        for entry in entries:
            self._accounts.update((entry.agent,) if entry.agent is not None else ())
            self._accounts.update(move.donor for move in entry.moves if move.donor is not None)
            self._holds.update((entry.hold_id,) if entry.hold_id is not None else ())

    def write(self, db: sqlite3.Connection, entries: Iterable[JournalEntry]) -> None:
        """Write what the commands since the last write have changed."""
        books, scope_id = self.books, self._scope_id
        version = self._version + 1
        db.execute(
            "UPDATE scope SET version = ?, seq = ?, now_s = ?, pool = ?, total = ?, closed = ? "
            "WHERE id = ?",
            (version, books.seq, books.now, books.pool, books.total, books.closed, scope_id),
        )
        db.executemany(
            _PUT_ACCOUNT,
            [
                _account_row(scope_id, version, self._place_of(name), books.accounts[name])
                for name in books.accounts.keys() & self._accounts
            ],
        )
        db.executemany(
            _PUT_HOLD,
            [
                _hold_row(scope_id, version, books.holds[hold_id])
                for hold_id in books.holds.keys() & self._holds
            ],
        )
        db.executemany(
            _PUT_KEY,
            [
                (scope_id, key, codec.dump(known.command), codec.dump(known.reply), known.until)
                for key in self._keys
                if (known := books.keys.get(key)) is not None
            ],
        )
        db.execute(
            "DELETE FROM used_key WHERE scope_id = ? AND until_s <= ?", (scope_id, books.now)
        )
        db.executemany(
            _PUT_ENTRY,
            [_entry_row(scope_id, entry) for entry in entries],
        )
        self._version = version
        self._forget()

    def _place_of(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))

    def _forget(self) -> None:
        """Keep accounts and open holds only; the rest is read when a command speaks of it."""
        books = self.books
        for hold_id in books.resolved:
            books.holds.pop(hold_id, None)
        for hold_id in self._holds:
            hold = books.holds.get(hold_id)
            if hold is not None and hold.status != "open":
                del books.holds[hold_id]
        books.resolved.clear()
        books.keys.clear()
        books.keys_due.clear()
        self._accounts.clear()
        self._holds.clear()
        self._keys.clear()


def statement(db: sqlite3.Connection, scope: str) -> Statement | None:
    """Read a scope's books as they stand in the file; None if there is no such scope."""
    row = _scope_row(db, scope)
    if row is None:
        return None
    scope_id, _, seq, _, pool, total, closed = row
    accounts = tuple(view(account) for _, _, account in _accounts(db, scope_id, _UNKNOWN))
    return Statement(seq, pool, total, bool(closed), accounts)


def journal(db: sqlite3.Connection, scope: str, after_seq: int) -> tuple[JournalEntry, ...]:
    """Read a scope's journal entries after `after_seq`, oldest first."""
    row = _scope_row(db, scope)
    if row is None:
        return ()
    query = (
        "SELECT seq, at_s, kind, agent, amount, hold_id, moves_json, allocated, consumed, held, "
        "pool, facts_json FROM journal WHERE scope_id = ? AND seq > ? ORDER BY seq"
    )
    return tuple(_entry(found) for found in db.execute(query, (row[0], after_seq)))


def reply_to(db: sqlite3.Connection, scope: str, key: str, now: float) -> Reply | None:
    """Read the first reply to a key; None if it was never used, or its time is over."""
    row = _scope_row(db, scope)
    found = None if row is None else _remembered(db, row[0], key)
    return None if found is None or found.until <= now else found.reply


def _scope_row(db: sqlite3.Connection, name: str) -> tuple[Any, ...] | None:
    query = "SELECT id, version, seq, now_s, pool, total, closed FROM scope WHERE name = ?"
    row: tuple[Any, ...] | None = db.execute(query, (name,)).fetchone()
    return row


def _accounts(
    db: sqlite3.Connection, scope_id: int, after_version: int
) -> Iterator[tuple[str, int, Account]]:
    """Yield name, place and account of all rows that were written after a version."""
    query = f"SELECT {_ACCOUNT} FROM account WHERE scope_id = ? AND version > ? ORDER BY place"  # noqa: S608 - our words
    for row in db.execute(query, (scope_id, after_version)):
        name, contract, tracked, place, finished, *numbers, buckets, denial = row
        account = Account(codec.load(contract), tracked=bool(tracked))
        account.finished = bool(finished)
        (
            account.allocated,
            account.consumed,
            account.held,
            account.unmeasured,
            account.denials,
            account.expired_holds,
            account.confidence,
        ) = numbers
        account.buckets = list(codec.load(buckets))
        account.last_denial = None if denial is None else codec.load(denial)
        yield name, place, account


def _account_row(scope_id: int, version: int, place: int, account: Account) -> tuple[Any, ...]:
    """Return an account as a row, in the order of the schema."""
    return (
        scope_id,
        account.contract.agent_name,
        version,
        codec.dump(account.contract),
        account.tracked,
        account.finished,
        account.allocated,
        account.consumed,
        account.held,
        account.unmeasured,
        account.denials,
        account.expired_holds,
        account.confidence,
        codec.dump(account.buckets),
        None if account.last_denial is None else codec.dump(account.last_denial),
        place,
    )


def _hold(row: tuple[Any, ...]) -> HoldRecord:
    """Return a hold from its row."""
    hold_id, agent, amount, charged, status, enforcement, expires_at, outcome = row
    hold = HoldRecord(hold_id, agent, amount, expires_at, enforcement)
    hold.status, hold.charged = status, charged
    hold.outcome = None if outcome is None else codec.load(outcome)
    return hold


def _hold_row(scope_id: int, version: int, hold: HoldRecord) -> tuple[Any, ...]:
    """Return a hold as a row, in the order of the schema."""
    return (
        scope_id,
        hold.hold_id,
        version,
        hold.agent,
        hold.amount,
        hold.charged,
        hold.status,
        hold.enforcement,
        hold.expires_at,
        None if hold.outcome is None else codec.dump(hold.outcome),
    )


def _remembered(db: sqlite3.Connection, scope_id: int, key: str) -> Remembered | None:
    """Return what a key was used for."""
    query = "SELECT command_json, reply_json, until_s FROM used_key WHERE scope_id = ? AND key = ?"
    row = db.execute(query, (scope_id, key)).fetchone()
    return None if row is None else Remembered(codec.load(row[0]), codec.load(row[1]), row[2])


def _entry(row: tuple[Any, ...]) -> JournalEntry:
    """Return a journal entry from its row."""
    moves, facts = codec.load(row[6]), codec.load(row[11])
    return JournalEntry._make((*row[:6], moves, *row[7:11], facts))


def _entry_row(scope_id: int, entry: JournalEntry) -> tuple[Any, ...]:
    """Return a journal entry as a row, in the order of the schema."""
    moves, facts = codec.dump(entry.moves), codec.dump(entry.facts)
    head = (entry.seq, entry.at, entry.kind, entry.agent, entry.amount, entry.hold_id)
    after = (entry.allocated, entry.consumed, entry.held, entry.pool)
    return (scope_id, *head, moves, *after, facts)


def _agents_in(command: Command) -> Iterator[str]:
    """Yield the agents that a command names."""
    for name in ("agent", "donor", "taker"):
        agent = getattr(command, name, None)
        if agent is not None:
            yield agent
    contract = getattr(command, "contract", None)
    contracts = getattr(command, "contracts", () if contract is None else (contract,))
    yield from (known.agent_name for known in contracts)
