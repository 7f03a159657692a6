"""The books of every moment, from the journal: what each account was right after an entry.

An entry tells the numbers of its own agent; what donors gave stands in its moves. So a journal that
is whole gives every moment exactly. One whose beginning was dropped is begun backwards: from the
first entry that tells of an agent, and from the statement for those that no entry tells of. Where
that is not possible, a number is None until an entry tells it: unknown is never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tbcontracts.books import AccountView, Statement
from tbcontracts.events import JournalEntry

_UNTOUCHED = ("denied", "would_deny", "confidence", "extended", "closed")
_ADDS_BUDGET = ("opened", "contract_changed", "topped_up")
_REOPENS = ("held", "transferred", "topped_up")


class Numbers(NamedTuple):
    """An account at one moment."""

    allocated: int
    consumed: int
    held: int


_NOTHING = Numbers(0, 0, 0)


@dataclass(slots=True)
class Line:
    """An agent at the moment that the replay has come to."""

    agent: str
    numbers: Numbers | None = _NOTHING
    """None while no entry that is kept has told of it."""
    priority: int | None = None
    """None without a contract, or where its terms of then are not known."""
    reserve: int | None = None
    tracked: bool = True
    finished: bool = False


def is_whole(statement: Statement, journal: Sequence[JournalEntry]) -> bool:
    """Return whether a journal reaches back to the first entry."""
    return journal[0].seq == 1 if journal else statement.seq == 0


class Replay:
    """Follows a journal, and keeps what the books were.

    Args:
        statement: The books at the end.
        journal: The entries that are kept, oldest first, none after the statement.
    """

    def __init__(self, statement: Statement, journal: Sequence[JournalEntry]) -> None:
        self.lines: dict[str, Line] = {}
        self.pool: int | None = 0 if is_whole(statement, journal) else None
        added = sum(entry.amount for entry in journal if entry.kind in _ADDS_BUDGET)
        self.total = statement.total - added
        if self.pool is None:
            self.lines = _before(statement.accounts, journal)
        self._unknown = sum(line.numbers is None for line in self.lines.values())
        known = [line.numbers for line in self.lines.values() if line.numbers is not None]
        self._consumed = sum(numbers.consumed for numbers in known)
        self._held = sum(numbers.held for numbers in known)

    @property
    def consumed(self) -> int | None:
        """What all agents have consumed, or None while that is not known of each."""
        return None if self._unknown else self._consumed

    @property
    def held(self) -> int | None:
        """What is held for all agents, or None while that is not known of each."""
        return None if self._unknown else self._held

    def hear(self, entry: JournalEntry) -> int:
        """Take the next entry; return what went back to the pool with it."""
        rest = _rest(entry, self.pool) or 0
        self.pool = entry.pool
        if entry.kind in _ADDS_BUDGET:
            self.total += entry.amount
        for donor, amount in entry.moves:
            line = None if donor is None else self.lines.get(donor)
            if line is not None and line.numbers is not None:
                allocated = line.numbers.allocated - amount
                line.numbers = line.numbers._replace(allocated=allocated)
        if entry.agent is not None:
            self._update(self.lines.setdefault(entry.agent, Line(entry.agent)), entry)
        return rest

    def _update(self, line: Line, entry: JournalEntry) -> None:
        """Write down what an entry tells of its agent."""
        if line.numbers is None:
            self._unknown -= 1
        before = line.numbers or _NOTHING
        line.numbers = Numbers(entry.allocated, entry.consumed, entry.held)
        self._consumed += entry.consumed - before.consumed
        self._held += entry.held - before.held
        if entry.kind in ("opened", "contract_changed"):
            line.priority, line.reserve = entry.facts["priority"], entry.facts["min_reserve"]
            line.tracked = False
        if entry.kind == "finished":
            line.finished = True
        elif entry.kind in _REOPENS:
            line.finished = False


def _rest(entry: JournalEntry, pool_before: int | None) -> int | None:
    """Return what a finished agent gave back to the pool, which is what nothing else explains."""
    if pool_before is None:
        return entry.amount if entry.kind == "finished" else None
    taken = sum(amount for donor, amount in entry.moves if donor is None)
    added = entry.amount if entry.kind == "topped_up" and entry.agent is None else 0
    return entry.pool - (pool_before - taken + added)


def _before(accounts: Sequence[AccountView], journal: Sequence[JournalEntry]) -> dict[str, Line]:
    """Return the accounts as they were before the first entry that is kept."""
    first: dict[str, tuple[JournalEntry, int | None]] = {}
    terms: dict[str, JournalEntry] = {}
    lent: Counter[str] = Counter()  # before the first entry of the donor's own
    pool: int | None = None
    for entry in journal:
        rest, pool = _rest(entry, pool), entry.pool
        for donor, amount in entry.moves:
            if donor is not None and donor not in first:
                lent[donor] += amount
        if entry.agent is not None:
            first.setdefault(entry.agent, (entry, rest))
            if entry.kind in ("opened", "contract_changed"):
                terms.setdefault(entry.agent, entry)
    lines = {}
    for account in accounts:
        line = _one_before(account, first.get(account.agent), terms.get(account.agent))
        if line is None:
            continue
        if line.numbers is not None and lent[account.agent]:
            allocated = line.numbers.allocated + lent[account.agent]
            line.numbers = line.numbers._replace(allocated=allocated)
        lines[account.agent] = line
    return lines


def _one_before(
    account: AccountView,
    first: tuple[JournalEntry, int | None] | None,
    terms: JournalEntry | None,
) -> Line | None:
    """Return an account before the first entry that is kept; None if it was not there."""
    if first is None:
        numbers: Numbers | None = Numbers(account.allocated, account.consumed, account.held)
    else:
        numbers = _undone(*first)
    line = Line(account.agent, numbers, finished=account.finished and first is None)
    if account.contract is not None and (terms is None or terms.kind != "opened"):
        line.tracked = False
        if terms is None:
            line.priority, line.reserve = account.contract.priority, account.contract.reserve
    was_not_there = first is not None and line.tracked and numbers == _NOTHING
    return None if was_not_there else line


def _undone(entry: JournalEntry, rest: int | None) -> Numbers | None:
    """Return the numbers of an entry's agent before it, or None where it does not tell."""
    kind, amount, consumed, held = entry.kind, entry.amount, entry.consumed, entry.held
    allocated = entry.allocated - sum(move.amount for move in entry.moves)
    told: dict[str, Numbers] = {
        "held": Numbers(allocated, consumed, held - amount),
        "charged": Numbers(allocated, consumed - amount, held),
        "transferred": Numbers(allocated, consumed, held),
        "topped_up": Numbers(allocated - amount, consumed, held),
        "finished": Numbers(allocated + amount, consumed, held),
        "opened": Numbers(0, consumed, held),
    }
    if kind in _UNTOUCHED:
        return Numbers(entry.allocated, consumed, held)
    if kind in told:
        return told[kind]
    if rest is None:
        return None
    if kind == "contract_changed":
        return Numbers(allocated - amount + rest, consumed, held)
    if kind == "expired":
        charged = amount if entry.facts.get("charged") else 0
        return Numbers(allocated + rest, consumed - charged, held + amount)
    if kind == "settled" and not entry.facts.get("late"):
        given_back = int(entry.facts.get("held", 0))
        return Numbers(allocated + rest, consumed - amount, held + given_back)
    return None  # a void gives back a hold or a charge, a late settle replaces one: not told which
