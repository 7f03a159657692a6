"""The books of one scope between rows of a database and the `Books` that the rules work on.

A process keeps the books of a scope in memory: accounts and open holds. Before each command it
reads again what other processes have changed since, told by the version in every row, and what it
does not keep: the command's key and an ended hold. After it, it writes what has changed. So the
rules stand once, whatever the database; nothing here talks to one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tbcontracts.books import Account, Books, HoldRecord, Remembered, Statement, view
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import TBCError
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.stores import codec
from tbcontracts.stores.base import Applied

Row = Sequence[Any]
UNKNOWN = -1
"""A version before all others: of books that were not read yet."""


class Changes(NamedTuple):
    """What is to be written, as rows in the order of the tables' columns."""

    scope: Row
    accounts: list[Row]
    holds: list[Row]
    keys: list[Row]
    entries: list[Row]


class ScopeRows:
    """One scope's books as this process keeps them."""

    def __init__(self) -> None:
        self.books = Books(journal_entries_max=None)
        self.scope_id = UNKNOWN
        self.version = UNKNOWN
        self._accounts: set[str] = set()  # what the commands since the last write may have changed
        self._holds: set[str] = set()
        self._keys: set[str] = set()
        self._entries: list[JournalEntry] = []
        self._places: dict[str, int] = {}  # of each account, in the order of opening

    # --- reading ----------------------------------------------------------------------------------

    def read(self, scope: Row, accounts: Iterable[Row], holds: Iterable[Row]) -> None:
        """Take in what others have changed.

        Args:
            scope: Its row: id, version, seq, now, pool, total, closed, unit.
            accounts: Those written after the version that is known here.
            holds: The same; of books that were not read yet only the open ones matter.
        """
        scope_id, version, *numbers = scope
        books = self.books
        self.scope_id, self.version = scope_id, version
        books.seq, now, books.pool, books.total, closed, books.unit = numbers
        books.now = max(books.now, now)
        books.closed = bool(closed)
        for row in accounts:
            name, place, account = _account(row)
            books.accounts[name] = account
            books.donors.touch(name, books.accounts)
            self._places[name] = place
        for row in holds:
            self.read_hold(row)

    def read_hold(self, row: Row) -> None:
        """Take in a hold that others have changed, or that a command speaks of."""
        hold = _hold(row)
        self.books.holds[hold.hold_id] = hold
        if hold.status == "open":
            heapq.heappush(self.books.due, (hold.expires_at, hold.hold_id))

    def read_key(self, key: str, row: Row) -> None:
        """Take in what a command's key was used for."""
        self.books.keys.setdefault(key, _remembered(row))

    def lacks(self, command: Command) -> tuple[str | None, str | None]:
        """Return the key and the hold that a command speaks of, where they must be read first."""
        key, hold_id = getattr(command, "key", None), getattr(command, "hold_id", None)
        return (
            None if key in self.books.keys else key,
            None if hold_id in self.books.holds else hold_id,
        )

    # --- commands ---------------------------------------------------------------------------------

    def carry_out(self, command: Command, now: float) -> Applied | Exception:
        """Carry out one command; an error is the command's own, and the books are as they were."""
        outcome: Reply | Exception
        books = self.books
        try:
            outcome = step(books, command, now)
        except (TBCError, TypeError, ValueError) as error:
            outcome = error
        written = tuple(books.journal)
        books.journal.clear()
        self._note(command, written)
        self._entries.extend(written)
        return outcome if isinstance(outcome, Exception) else Applied(outcome, written)

    def _note(self, command: Command, entries: Iterable[JournalEntry]) -> None:
        """Note what a command may have changed."""
        self._accounts.update(_agents_in(command))
        key, hold_id = getattr(command, "key", None), getattr(command, "hold_id", None)
        self._keys.update((key,) if key is not None else ())
        self._holds.update((hold_id,) if hold_id is not None else ())
        for entry in entries:
            self._accounts.update((entry.agent,) if entry.agent is not None else ())
            self._accounts.update(move.donor for move in entry.moves if move.donor is not None)
            self._holds.update((entry.hold_id,) if entry.hold_id is not None else ())

    # --- writing ----------------------------------------------------------------------------------

    def changes(self) -> Changes:
        """Return what the commands since the last write have changed."""
        books, scope_id, version = self.books, self.scope_id, self.version + 1
        self._give_places()
        return Changes(
            (
                *(version, books.seq, books.now, books.pool, books.total),
                *(int(books.closed), books.unit, scope_id),
            ),
            [
                _account_row(scope_id, version, self._place_of(name), books.accounts[name])
                for name in sorted(books.accounts.keys() & self._accounts)
            ],
            [
                _hold_row(scope_id, version, books.holds[hold_id])
                for hold_id in sorted(books.holds.keys() & self._holds)
            ],
            [
                (scope_id, key, codec.dump(known.command), codec.dump(known.reply), known.until)
                for key in sorted(self._keys)
                if (known := books.keys.get(key)) is not None
            ],
            [_entry_row(scope_id, entry) for entry in self._entries],
        )

    def written(self) -> None:
        """Note that the changes are in the database; keep accounts and open holds only."""
        self.version += 1
        books = self.books
        for hold_id in (*books.resolved, *self._holds):
            hold = books.holds.get(hold_id)
            if hold is not None and hold.status != "open":
                del books.holds[hold_id]
        books.resolved.clear()
        books.keys.clear()
        books.keys_due.clear()
        for changed in (self._accounts, self._holds, self._keys, self._entries):
            changed.clear()

    def _give_places(self) -> None:
        """Number the accounts that are new, in the order of opening."""
        new = self._accounts - self._places.keys()
        for name in self.books.accounts if len(new) > 1 else new:
            if name in new and name in self.books.accounts:
                self._place_of(name)

    def _place_of(self, name: str) -> int:
        return self._places.setdefault(name, len(self._places))


def statement(scope: Row, accounts: Iterable[Row]) -> Statement:
    """Return a scope's books from its row and those of its accounts."""
    _, _, seq, _, pool, total, closed, unit = scope
    views = tuple(view(account) for _, _, account in map(_account, accounts))
    return Statement(seq, pool, total, bool(closed), views, unit or "tokens")


def entry(row: Row) -> JournalEntry:
    """Return a journal entry from its row."""
    moves, facts = codec.load(row[6]), codec.load(row[11])
    return JournalEntry._make((*row[:6], moves, *row[7:11], facts))


def reply_in(row: Row, now: float) -> Reply | None:
    """Return the first reply to a key from its row; None if its time is over."""
    found = _remembered(row)
    return None if found.until <= now else found.reply


def _account(row: Row) -> tuple[str, int, Account]:
    """Return name, place and account from a row."""
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
        account.owed,
        account.confidence,
    ) = numbers
    account.buckets = list(codec.load(buckets))
    account.last_denial = None if denial is None else codec.load(denial)
    return name, place, account


def _account_row(scope_id: int, version: int, place: int, account: Account) -> Row:
    return (
        scope_id,
        account.contract.agent_name,
        version,
        codec.dump(account.contract),
        int(account.tracked),
        place,
        int(account.finished),
        account.allocated,
        account.consumed,
        account.held,
        account.unmeasured,
        account.denials,
        account.expired_holds,
        account.owed,
        account.confidence,
        codec.dump(account.buckets),
        None if account.last_denial is None else codec.dump(account.last_denial),
    )


def _hold(row: Row) -> HoldRecord:
    hold_id, agent, amount, *charged, status, enforcement, expires_at, outcome = row
    hold = HoldRecord(hold_id, agent, amount, expires_at, enforcement)
    hold.status = status
    hold.charged, hold.cost, hold.unpriced = charged
    hold.outcome = None if outcome is None else codec.load(outcome)
    return hold


def _hold_row(scope_id: int, version: int, hold: HoldRecord) -> Row:
    return (
        scope_id,
        hold.hold_id,
        version,
        hold.agent,
        hold.amount,
        hold.charged,
        hold.cost,
        hold.unpriced,
        hold.status,
        hold.enforcement,
        hold.expires_at,
        None if hold.outcome is None else codec.dump(hold.outcome),
    )


def _remembered(row: Row) -> Remembered:
    command, reply, until = row
    return Remembered(codec.load(command), codec.load(reply), until)


def _entry_row(scope_id: int, written: JournalEntry) -> Row:
    moves, facts = codec.dump(written.moves), codec.dump(written.facts)
    head = (written.seq, written.at, written.kind, written.agent, written.amount, written.hold_id)
    after = (written.allocated, written.consumed, written.held, written.pool)
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
