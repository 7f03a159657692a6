"""The promises, asked of a journal: hears each entry, and says which promise it breaks.

It knows no rules but arithmetic. From the entries alone it keeps what every account must be, so a
journal that it has nothing to say about adds up, and its numbers are the books'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tbcontracts.books import Statement
from tbcontracts.events import JournalEntry, Move
from tbcontracts.testing.audit_usage import Charge, Used, differences


@dataclass
class _Line:
    """What the journal has said of an agent."""

    name: str
    tracked: bool = True  # until a contract is opened
    priority: int = 1
    reserve: int = 0
    most: int = 0
    owed: int = 0
    allocated: int = 0
    consumed: int = 0
    held: int = 0
    finished: bool = False
    used: Used = field(default_factory=Used)

    @property
    def remaining(self) -> int:
        return self.allocated - self.consumed - self.held

    @property
    def surplus(self) -> int:
        return 0 if self.tracked else max(0, self.remaining - self.reserve)

    @property
    def place(self) -> tuple[int, int, bytes]:
        """Where it stands among the donors."""
        return self.priority, -self.surplus, self.name.encode()


class _Hold(NamedTuple):
    """What the journal has said of a hold that is not ended for good."""

    agent: str
    size: int
    """What it was granted; also once it holds nothing any more."""
    held: int
    charge: Charge | None = None
    """What is charged for it by estimate, until the truth comes."""
    limit: float | None = None
    """When it is due; None once it has ended in some way."""
    borrows: bool = True

    @property
    def charged(self) -> int:
        return 0 if self.charge is None else self.charge.amount


class BrokenPromiseError(AssertionError):
    """A journal says that the books did what they must not do.

    Attributes:
        said: What does not hold; begins with the promise, such as "P3: ", where it is one of them.
        entry: The entry that says so; None where the end of the journal is meant.
    """

    def __init__(self, said: str, entry: JournalEntry | None = None) -> None:
        self.said = said
        self.entry = entry
        super().__init__(said if entry is None else f"{said} ({entry})")


class Audit:
    """Follows the journal of one scope from its first entry."""

    def __init__(self) -> None:
        self.seq = 0
        self.at = 0.0
        self.pool = 0
        self.total = 0
        self._lines: dict[str, _Line] = {}
        self._holds: dict[str, _Hold] = {}
        self._ended: set[str] = set()
        self._entry: JournalEntry | None = None

    def hear(self, entry: JournalEntry) -> None:
        """Take the next entry.

        Raises:
            BrokenPromiseError: It breaks a promise, or does not follow from the ones before.
        """
        self._entry = entry
        self._claim(entry.seq == self.seq + 1, f"order: seq {entry.seq} comes after {self.seq}")
        self._claim(entry.at >= self.at, f"order: time went back from {self.at}")
        self.seq, self.at = entry.seq, entry.at
        line = None if entry.agent is None else self._line(entry.agent)
        hear: Callable[[JournalEntry, Any], None] = getattr(self, f"_{entry.kind}")
        hear(entry, line)
        if line is not None:
            if line.finished and line.remaining > 0:
                self.pool += line.remaining
                line.allocated -= line.remaining
            said = (entry.allocated, entry.consumed, entry.held)
            kept = (line.allocated, line.consumed, line.held)
            self._claim(said == kept, f"allocated, consumed, held must be {kept}, not {said}")
        self._claim(entry.pool == self.pool, f"the pool must be {self.pool}, not {entry.pool}")
        there = sum(one.allocated for one in self._lines.values()) + self.pool
        self._claim(there == self.total, f"P1: {there} is there of {self.total}")

    def compare(self, statement: Statement) -> None:
        """Compare a statement with what the entries came to.

        Raises:
            BrokenPromiseError: They differ, or no entry tells of something.
        """
        self._entry = None
        accounts = {account.agent: account for account in statement.accounts}
        self._claim(statement.seq == self.seq, f"the books are at {statement.seq}, not {self.seq}")
        self._claim(statement.pool == self.pool, f"pool is {statement.pool}, not {self.pool}")
        self._claim(statement.total == self.total, f"total is {statement.total}, not {self.total}")
        for name in accounts.keys() | self._lines.keys():
            account, line = accounts.get(name), self._lines.get(name) or _Line(name)
            said = account and (account.allocated, account.consumed, account.held)
            kept = (line.allocated, line.consumed, line.held)
            self._claim(said == kept, f"{name!r} is {said}, not {kept}")
            open_holds = sum(one.held for one in self._holds.values() if one.agent == name)
            self._claim(open_holds == line.held, f"{name!r} holds {line.held}, not {open_holds}")
            for difference in differences(account, line.used, statement.unit):
                self._claim(False, difference)

    def _claim(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise BrokenPromiseError(otherwise, self._entry)

    def _line(self, name: str) -> _Line:
        return self._lines.setdefault(name, _Line(name))

    def _opened(self, entry: JournalEntry, line: _Line) -> None:
        self._claim(line.tracked, "a contract was opened twice")
        line.tracked = False
        self._terms(entry, line)

    def _terms(self, entry: JournalEntry, line: _Line) -> None:
        """Bring terms into force, and the budget that comes or goes with them."""
        line.priority, line.reserve = entry.facts["priority"], entry.facts["min_reserve"]
        line.most = entry.facts["max_tokens"]
        line.allocated += entry.amount
        self.total += entry.amount

    def _contract_changed(self, entry: JournalEntry, line: _Line) -> None:
        falls_below = line.allocated + entry.amount < min(line.allocated, line.consumed + line.held)
        self._claim(not falls_below, "allocated fell below what is used")
        before, wanted = line.owed, entry.facts["max_tokens"] - line.most
        line.owed += entry.amount - wanted
        self._claim(line.owed >= 0, f"more than {before} was paid of what is owed")
        self._terms(entry, line)
        to_pay, to_take = wanted > 0 and line.owed > 0, line.remaining > 0
        self._claim(not (to_pay and entry.amount > 0), "P1: a contract grew before it paid")
        self._claim(line.owed <= before or not to_take, "a smaller contract left what is free")

    def _held(self, entry: JournalEntry, line: _Line) -> None:
        hold_id = self._new_hold(entry)
        self._take(line, entry.moves)
        line.finished = False
        line.held += entry.amount
        fits = line.consumed + line.held <= line.allocated
        self._claim(fits or line.tracked, "P2: a hold was granted that does not fit")
        limit = entry.at + entry.facts["ttl_s"]
        self._holds[hold_id] = _Hold(line.name, entry.amount, entry.amount, limit=limit)

    def _would_deny(self, entry: JournalEntry, line: _Line) -> None:
        self._nothing(entry, line)
        if entry.hold_id is not None:
            self._holds[self._new_hold(entry)] = _Hold(line.name, 0, 0, borrows=False)

    def _nothing(self, entry: JournalEntry, line: _Line) -> None:
        """Hear of something that changes no number."""
        if entry.kind in ("denied", "would_deny"):
            line.used.refused()
        self._claim(not entry.moves, "P6: a refusal moved something")

    _denied = _confidence = _closed = _nothing

    def _settled(self, entry: JournalEntry, line: _Line) -> None:
        hold = self._end(entry, line)
        line.consumed += entry.amount
        if entry.facts.get("provisional"):
            charge = line.used.estimated(entry)
            self._holds[str(entry.hold_id)] = hold._replace(held=0, charge=charge, limit=None)
        else:
            line.used.posted(entry)
            self._ended.add(str(entry.hold_id))
        self._claim(hold.borrows or not entry.moves, "a hold that was let through borrowed")
        self._cover(entry, line)

    def _voided(self, entry: JournalEntry, line: _Line) -> None:
        hold = self._end(entry, line)
        self._ended.add(str(entry.hold_id))
        given_back = hold.held + hold.charged
        self._claim(entry.amount == given_back, f"{given_back} was to be given back")

    def _end(self, entry: JournalEntry, line: _Line) -> _Hold:
        """Take a hold from the books, with what was charged for it by estimate.

        Books forget holds that ended long ago: then an estimate stays, and the truth comes on top.
        """
        self._claim(entry.hold_id not in self._ended, "P5: a hold was ended twice")
        hold = self._holds.pop(str(entry.hold_id), None) or _Hold(line.name, 0, 0)
        self._claim(hold.agent == line.name, f"the hold is {hold.agent!r}'s")
        forgotten = not hold.held and hold.size and entry.facts.get("held") == 0
        if forgotten:
            return _Hold(line.name, 0, 0)
        line.held -= hold.held
        line.consumed -= hold.charged
        if hold.charge is not None:
            line.used.take_back(hold.charge)
        return hold

    def _expired(self, entry: JournalEntry, line: _Line) -> None:
        hold = self._open_hold(entry)
        due = hold.limit is None or hold.limit <= entry.at
        self._claim(due, f"a hold ended before its limit {hold.limit}")
        charge = line.used.expired(entry)
        line.held -= hold.held
        line.consumed += 0 if charge is None else charge.amount
        self._holds[str(entry.hold_id)] = hold._replace(held=0, charge=charge, limit=None)

    def _extended(self, entry: JournalEntry, line: _Line) -> None:
        hold = self._open_hold(entry)
        self._claim(hold.agent == line.name, f"the hold is {hold.agent!r}'s")
        limit = entry.at + entry.facts["ttl_s"] if hold.borrows else None
        self._holds[str(entry.hold_id)] = hold._replace(limit=limit)

    def _charged(self, entry: JournalEntry, line: _Line) -> None:
        line.consumed += entry.amount
        line.used.posted(entry)
        self._cover(entry, line)

    def _transferred(self, entry: JournalEntry, line: _Line) -> None:
        self._take(line, entry.moves, in_order=False)
        line.finished = False

    def _topped_up(self, entry: JournalEntry, line: _Line | None) -> None:
        self.total += entry.amount
        if line is None:
            self.pool += entry.amount
        else:
            line.finished = False
            line.allocated += entry.amount

    def _finished(self, entry: JournalEntry, line: _Line) -> None:
        rest = max(0, line.remaining)
        self._claim(entry.amount == rest, f"{rest} was left to give to the pool")
        line.finished = True

    def _new_hold(self, entry: JournalEntry) -> str:
        """Return the name of a hold that no other may have."""
        hold_id = str(entry.hold_id)
        known = hold_id in self._holds or hold_id in self._ended
        self._claim(not known, "a hold was granted twice")
        return hold_id

    def _open_hold(self, entry: JournalEntry) -> _Hold:
        """Return a hold that must be there."""
        hold = self._holds.get(str(entry.hold_id))
        self._claim(hold is not None, "there is no such hold")
        assert hold is not None
        return hold

    def _cover(self, entry: JournalEntry, line: _Line) -> None:
        """Carry out moves that cover an overdraft, and no more than that."""
        self._take(line, entry.moves)
        self._claim(not entry.moves or line.remaining <= 0, "more was moved than was lacking")

    def _take(self, taker: _Line, moves: tuple[Move, ...], *, in_order: bool = True) -> None:
        """Carry out moves: from the pool, then from donors in their order, each to its reserve."""
        order = sorted(
            (one for one in self._lines.values() if one.surplus and one is not taker),
            key=lambda one: one.place,
        )
        names: list[str | None] = [None] if self.pool else []
        names += [one.name for one in order]
        for at, (donor_name, amount) in enumerate(moves):
            last = at == len(moves) - 1
            if donor_name is None:
                given = self.pool
                self.pool -= amount
            else:
                donor = self._line(donor_name)
                given = donor.surplus
                uphill = donor.priority > taker.priority
                self._claim(not uphill, f"P4: {donor_name!r} gave to a lower priority")
                self._claim(donor is not taker, "an agent gave to itself")
                donor.allocated -= amount
            self._claim(0 <= amount <= given, f"P3: {donor_name!r} can give {given}, not {amount}")
            if in_order:
                turn = names[at : at + 1]
                self._claim(turn == [donor_name], f"P4: it was the turn of {turn} to give")
                self._claim(last or amount == given, f"{donor_name!r} could have given {given}")
            taker.allocated += amount
