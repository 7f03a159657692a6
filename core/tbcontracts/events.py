"""What the journal holds: one record for every change of the books, and for every refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal[
    "opened",  # an agent's contract came into force in this scope
    "held",
    "denied",
    "would_deny",  # observe mode: the hold was let through although it did not fit
    "settled",
    "voided",
    "expired",
    "extended",
    "charged",
    "transferred",
    "topped_up",
    "finished",
    "contract_changed",
    "confidence",
    "closed",
]


class Move(NamedTuple):
    """Allocation that went from a donor to the agent of the same journal entry."""

    donor: str | None
    """The agent that gave it; None is the pool."""
    amount: int


class JournalEntry(NamedTuple):
    """One thing that happened, and the books right after it.

    A command writes one entry, with all its moves in it; holds that expire on the way write their
    own. `seq` has no gaps.
    """

    seq: int
    at: float
    """Seconds since the epoch, by the store's clock; never goes backwards within a scope."""
    kind: Kind
    agent: str | None
    """None where the scope itself is meant (the pool, closing)."""
    amount: int
    """What the kind says: tokens held, posted, given back, asked for."""
    hold_id: str | None
    moves: tuple[Move, ...]
    allocated: int
    consumed: int
    held: int
    pool: int
    facts: Mapping[str, Any]
    """What else is known: the reason of a denial, how a hold was sized, the buckets of a usage."""

    @property
    def remaining(self) -> int:
        """What the agent had left after this entry; negative is an overdraft."""
        return self.allocated - self.consumed - self.held

    @property
    def asked(self) -> int | None:
        """What a call asked for; None where the price of its model was not known."""
        return None if self.facts.get("code") == "unknown_price" else self.amount

    @property
    def when(self) -> tuple[float, int]:
        """Its place among the entries of its scope, also where new books begin at 1 again."""
        return self.at, self.seq

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        entry = self._asdict()
        entry["moves"] = [move._asdict() for move in self.moves]
        entry["facts"] = dict(self.facts)
        return entry
