"""What a journal says was used: tokens of each kind, estimates, dollars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tbcontracts.books import AccountView
from tbcontracts.events import JournalEntry

_BUCKETS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


class Charge(NamedTuple):
    """What one entry charged, and what that cost. In books of tokens a cost may be unknown."""

    amount: int
    cost_micro_usd: int | None
    """What the entry says of it."""
    unpriced_tokens: int
    """Its tokens, which have no price where the entry names none."""
    counted: bool
    """Whether the tokens were counted, or only the amount is known."""

    def cost_in(self, unit: str) -> tuple[int, int]:
        """Return micro-dollars, and tokens without a price; in dollars the charge is the cost."""
        cost = self.cost_micro_usd
        if unit == "usd":
            return self.amount, self.unpriced_tokens if self.counted and cost is None else 0
        return (0, self.unpriced_tokens) if cost is None else (cost, 0)


class Used:
    """What the journal has said that an agent used, and how often it was refused."""

    def __init__(self) -> None:
        self._buckets = dict.fromkeys(_BUCKETS, 0)
        self._unmeasured = self._refusals = self._expired = 0
        self._costs = {"tokens": [0, 0], "usd": [0, 0]}  # which of them counts, the books know

    def posted(self, entry: JournalEntry) -> None:
        """Count what was charged for good."""
        for bucket in _BUCKETS:
            self._buckets[bucket] += entry.facts.get(bucket, 0)
        if entry.facts.get("unmeasured"):
            self._unmeasured += entry.amount
        self._count(_charge(entry), 1)

    def estimated(self, entry: JournalEntry) -> Charge:
        """Count what is charged until the truth comes; its tokens count only then."""
        charge = _charge(entry)
        self._unmeasured += charge.amount
        self._count(charge, 1)
        return charge

    def expired(self, entry: JournalEntry) -> Charge | None:
        """Count a hold that ended at its limit; return what was charged for it, if anything."""
        self._expired += 1
        return self.estimated(entry) if entry.facts["charged"] else None

    def take_back(self, charge: Charge) -> None:
        """Take back what was charged by estimate."""
        self._unmeasured -= charge.amount
        self._count(charge, -1)

    def refused(self) -> None:
        """Count a refusal."""
        self._refusals += 1

    def _count(self, charge: Charge, sign: int) -> None:
        for unit, cost in self._costs.items():
            for place, found in enumerate(charge.cost_in(unit)):
                cost[place] += sign * found

    def numbers(self, unit: str) -> dict[str, int]:
        """Return what an account in this unit must say."""
        cost, unpriced = self._costs[unit]
        return {
            **self._buckets,
            "unmeasured": self._unmeasured,
            "cost_micro_usd": cost,
            "unpriced_tokens": unpriced,
            "expired_holds": self._expired,
        }

    def knows_more_refusals(self, denials: int) -> bool:
        """Return whether there were more than this; one that repeats the last has no entry."""
        return self._refusals > denials


def differences(account: AccountView | None, used: Used, unit: str) -> Iterator[str]:
    """Yield what an account says otherwise than the journal."""
    if account is None:
        return
    for name, number in used.numbers(unit).items():
        said = getattr(account, name)
        if said != number:
            yield f"P5: {name} of {account.agent!r} is {said}, not {number}"
    if used.knows_more_refusals(account.denials):
        yield f"{account.agent!r} was refused more often than {account.denials} times"


def _charge(entry: JournalEntry) -> Charge:
    facts, counted = entry.facts, "input_tokens" in entry.facts
    tokens = facts["input_tokens"] + facts["output_tokens"] if counted else entry.amount
    return Charge(entry.amount, facts.get("cost_micro_usd"), tokens, counted)
