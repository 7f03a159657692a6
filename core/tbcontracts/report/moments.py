"""A refusal, and the books at that moment: who could have given what, and why others could not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tbcontracts.events import JournalEntry
from tbcontracts.report.replay import Line, Replay

BUDGET_CODES = ("budget_exceeded", "reserve_kept", "fragmented")
"""Refusals before which pool and donors were asked."""
OTHERS_SHOWN = 12


class AccountThen(NamedTuple):
    """An account at the moment of a refusal."""

    agent: str
    priority: int | None
    allocated: int | None
    """None, as the others: the journal was cut and does not tell."""
    consumed: int | None
    held: int | None
    remaining: int | None
    reserve: int | None
    could_give: int | None
    no_contract: bool
    """It is tracked only, and has no budget."""
    why: str
    """Why it could give that and no more, as a word: see `why_of`."""


class BooksThen(NamedTuple):
    """The books at the moment of a refusal."""

    pool: int | None
    taker: AccountThen
    others: tuple[AccountThen, ...]
    """Those that matter most, not all: first those that could have given something."""
    not_shown: int
    not_shown_could_give: int
    could_give: int | None
    """What all others could have given together, the pool not counted."""


class Denial(NamedTuple):
    """A call that was refused, or would have been."""

    call: int
    """The number of the call, in the order in which calls asked."""
    entry: JournalEntry
    books: BooksThen

    @property
    def code(self) -> str:
        """The code of the reason."""
        return str(self.entry.facts.get("code", ""))

    @property
    def asked(self) -> int | None:
        """What it asked for; None where the price of its model was not known."""
        return self.entry.asked

    @property
    def available(self) -> int | None:
        """What could be reached; what the agent is overdrawn by is not counted below 0."""
        found = self.entry.facts.get("available")
        return found if isinstance(found, int) else None

    @property
    def let_through(self) -> bool:
        """Whether it went out all the same, because the mode was observe."""
        return self.entry.kind == "would_deny"

    @property
    def lacking(self) -> int | None:
        """How much more budget would have let it through, an overdraft paid first."""
        if self.code not in BUDGET_CODES:
            return None
        if self.available:
            return max(0, self.entry.amount - self.available)
        own, pool, others = self.entry.remaining, self.books.pool, self.books.could_give
        if pool is None or others is None:
            return None
        return max(0, self.entry.amount + self.kept - own - pool - others)

    @property
    def kept(self) -> int:
        """What it had to leave for its closing call: its reserve, or 0."""
        found = self.entry.facts.get("leave")
        return found if isinstance(found, int) else 0


def denial_at(call: int, entry: JournalEntry, replay: Replay) -> Denial:
    """Return a refusal with the books as they were; the replay has just heard it."""
    taker = replay.lines[str(entry.agent)]
    others = [_then(line, taker) for line in replay.lines.values() if line is not taker]
    others.sort(key=_matters)
    shown, hidden = others[:OTHERS_SHOWN], others[OTHERS_SHOWN:]
    books = BooksThen(
        pool=replay.pool,
        taker=_then(taker, taker),
        others=tuple(shown),
        not_shown=len(hidden),
        not_shown_could_give=sum(one.could_give or 0 for one in hidden),
        could_give=_sum_if_known(one.could_give for one in others),
    )
    return Denial(call, entry, books)


def _then(line: Line, taker: Line) -> AccountThen:
    """Copy an account, with what it could have given to the taker."""
    numbers = line.numbers
    why = why_of(line, taker)
    could_give: int | None = 0
    if numbers is None:
        return AccountThen(
            line.agent, line.priority, None, None, None, None, line.reserve, None, line.tracked, why
        )
    remaining = numbers.allocated - numbers.consumed - numbers.held
    if why == "unknown":
        could_give = None
    elif why == "gives" and line.reserve is not None:
        could_give = remaining - line.reserve
    return AccountThen(
        line.agent, line.priority, *numbers, remaining, line.reserve, could_give, line.tracked, why
    )


def why_of(line: Line, taker: Line) -> str:
    """Return why an account could give what it could.

    "gives": it had more than its reserve. "reserve": it had no more than that. "uphill": its
    priority is higher than the taker's. "finished": what it had went to the pool. "no_contract": it
    is tracked only, and has no budget. "self": it asked. "unknown": the journal does not tell.
    """
    if line is taker:
        return "self"
    if line.numbers is None:
        return "unknown"
    if line.tracked:
        return "no_contract"
    if line.priority is None or line.reserve is None or taker.priority is None:
        return "unknown"
    if line.priority > taker.priority:
        return "uphill"
    numbers = line.numbers
    if numbers.allocated - numbers.consumed - numbers.held > line.reserve:
        return "gives"
    return "finished" if line.finished else "reserve"


def _matters(one: AccountThen) -> tuple[int, int, str]:
    """Order accounts: those that could give first, then by what they had left."""
    return -(one.could_give or 0), -(one.remaining or 0), one.agent


def _sum_if_known(numbers: Iterable[int | None]) -> int | None:
    """Add numbers up, unless one of them is not known."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total
