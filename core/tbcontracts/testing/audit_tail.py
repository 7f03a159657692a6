"""What can still be asked of a journal whose first entries are gone: that the rest adds up."""

from __future__ import annotations

from typing import NamedTuple

from tbcontracts.books import Statement
from tbcontracts.events import JournalEntry
from tbcontracts.testing.audit import BrokenPromiseError

_BRINGS = ("opened", "topped_up", "contract_changed")
_SPENDS = ("settled", "voided", "expired", "charged")
_FREES = ("settled", "voided", "expired")


class _Numbers(NamedTuple):
    """What an agent's last entry said, and what it has given since."""

    allocated: int
    consumed: int
    held: int


class TailAudit:
    """Follows the journal of one scope from an entry that is not its first.

    An agent is believed at its first entry, and the pool at the first of all; from there on every
    change must be what the entries say, down to the books. What came before is not known: neither
    who had what to lend, nor whether a hold was ended before.

    Args:
        statement: The books, for which agents have contracts.
    """

    def __init__(self, statement: Statement) -> None:
        self.seq: int | None = None
        self._statement = statement
        self._at = 0.0
        self._pool = 0
        self._known: dict[str, _Numbers] = {}
        self._held: dict[str, int] = {}
        self._limited = {one.agent for one in statement.accounts if one.contract is not None}

    def hear(self, entry: JournalEntry) -> None:
        """Take the next entry.

        Raises:
            BrokenPromiseError: It does not follow from the ones before.
        """
        if self.seq is not None:
            _claim(
                entry.seq == self.seq + 1, f"order: seq {entry.seq} comes after {self.seq}", entry
            )
            _claim(entry.at >= self._at, f"order: time went back from {self._at}", entry)
        refused = entry.kind in ("denied", "would_deny")
        _claim(not (refused and entry.moves), "P6: a refusal moved something", entry)
        for donor, amount in entry.moves:
            self._give(donor, amount, entry)
        before = None if entry.agent is None else self._known.get(entry.agent)
        now = _Numbers(entry.allocated, entry.consumed, entry.held)
        if self.seq is not None:
            self._conserves(entry, before, now)
        if before is not None:
            self._follows(entry, before, now)
        if entry.agent is not None:
            self._known[entry.agent] = now
        if entry.kind == "held":
            self._held[str(entry.hold_id)] = entry.amount
            fits = now.consumed + now.held <= now.allocated
            limited = entry.agent in self._limited
            _claim(fits or not limited, "P2: a hold was granted that does not fit", entry)
        self.seq, self._at, self._pool = entry.seq, entry.at, entry.pool

    def compare(self) -> None:
        """Compare the books with what the entries came to.

        Raises:
            BrokenPromiseError: They differ.
        """
        books = self._statement
        _claim(books.seq == self.seq, f"the books are at {books.seq}, the journal at {self.seq}")
        _claim(books.pool == self._pool, f"pool is {books.pool}, not {self._pool}")
        for account in books.accounts:
            said = _Numbers(account.allocated, account.consumed, account.held)
            known = self._known.get(account.agent, said)
            _claim(said == known, f"{account.agent!r} is {tuple(said)}, not {tuple(known)}")
        there = sum(account.allocated for account in books.accounts) + books.pool
        _claim(there == books.total, f"P1: {there} is there of {books.total}")

    def _give(self, donor: str | None, amount: int, entry: JournalEntry) -> None:
        _claim(amount >= 0, f"P3: {donor!r} gave {amount}", entry)
        known = None if donor is None else self._known.get(donor)
        if donor is not None and known is not None:
            self._known[donor] = known._replace(allocated=known.allocated - amount)

    def _conserves(self, entry: JournalEntry, before: _Numbers | None, now: _Numbers) -> None:
        """Check that what is there now was there before, or was brought by this entry."""
        brought = entry.amount if entry.kind in _BRINGS else 0
        given = sum(amount for donor, amount in entry.moves if donor is not None)
        if entry.agent is None:
            grown = entry.pool - self._pool
        elif before is not None:
            grown = entry.pool - self._pool + now.allocated - before.allocated
        else:
            return
        _claim(grown == brought + given, f"P1: {grown - brought - given} came from nowhere", entry)

    def _follows(self, entry: JournalEntry, before: _Numbers, now: _Numbers) -> None:
        """Check what was spent and held."""
        kind, hold_id = entry.kind, str(entry.hold_id)
        spent, held = now.consumed - before.consumed, now.held - before.held
        if kind == "charged" or (kind == "settled" and hold_id in self._held):
            _claim(spent == entry.amount, f"P5: {spent} was posted of {entry.amount}", entry)
        elif kind not in _SPENDS:
            _claim(spent == 0, f"P5: {spent} was posted by what posts nothing", entry)
        if kind == "held":
            _claim(held == entry.amount, f"{held} was held of {entry.amount}", entry)
        elif kind in _FREES:
            known = self._held.pop(hold_id, None)
            right = held <= 0 if known is None else held == -known
            _claim(right, f"{-held} was set free of {known}", entry)
        else:
            _claim(held == 0, f"{held} was held by what holds nothing", entry)


def _claim(holds: bool, otherwise: str, entry: JournalEntry | None = None) -> None:
    if not holds:
        raise BrokenPromiseError(otherwise, entry)
