"""The calls of a scope: numbered in the order in which they asked, and how each one ended."""

from __future__ import annotations

from typing import NamedTuple

from tbcontracts.events import JournalEntry, Move

_ENDS = {"settled": "settled", "voided": "voided", "expired": "expired"}


class CallView(NamedTuple):
    """A call that asked for budget."""

    number: int
    seq: int
    at: float
    agent: str
    asked: int | None
    """None where the price of its model was not known."""
    outcome: str
    """"open", "settled", "voided", "expired", "denied" or "would_deny"."""
    used: int | None = None
    """What was posted for it; None while nothing was, or nothing ever will be."""
    unmeasured: bool = False
    late: bool = False
    moves: tuple[Move, ...] = ()
    """What was moved to the agent for it."""
    model: str | None = None
    note: str | None = None
    let_through: bool = False
    """It did not fit, and went out because the mode was observe."""


class CallLog:
    """Follows calls from where they ask to where they end; keeps the first and the last ones.

    Args:
        total: How many there will be.
        each_end: How many are kept from each end.
    """

    def __init__(self, total: int, each_end: int) -> None:
        self.asked = 0
        self._total = total
        self._each_end = each_end
        self._kept: dict[int, CallView] = {}
        self._by_hold: dict[str, int] = {}

    def hear(self, entry: JournalEntry, *, asks: bool, let_through: bool = False) -> None:
        """Take the next entry."""
        if asks:
            self._ask(entry, let_through=let_through)
        elif entry.kind in _ENDS and entry.hold_id in self._by_hold:
            self._end(self._by_hold[entry.hold_id], entry)

    def view(self) -> tuple[CallView, ...]:
        """Return the calls that were kept, in their order."""
        return tuple(self._kept.values())

    def _ask(self, entry: JournalEntry, *, let_through: bool) -> None:
        self.asked = number = self.asked + 1
        if self._each_end < number <= self._total - self._each_end:
            return
        outcome = "open" if entry.kind == "held" else entry.kind
        call = CallView(number, entry.seq, entry.at, str(entry.agent), entry.asked, outcome)
        self._kept[number] = call._replace(moves=entry.moves, let_through=let_through)
        if entry.hold_id is not None:
            self._by_hold[entry.hold_id] = number

    def _end(self, number: int, entry: JournalEntry) -> None:
        """Note how a call ended; a later end replaces an earlier one, as on the books."""
        facts, call = entry.facts, self._kept[number]
        posted = entry.kind == "settled" or (entry.kind == "expired" and facts.get("charged"))
        model, note = facts.get("model"), facts.get("note")
        self._kept[number] = call._replace(
            outcome=_ENDS[entry.kind],
            used=entry.amount if posted else None,
            unmeasured=bool(facts.get("unmeasured")) or (entry.kind == "expired" and bool(posted)),
            late=bool(facts.get("late")),
            moves=(*call.moves, *entry.moves),
            model=None if model is None else str(model),
            note=None if note is None else str(note),
        )
