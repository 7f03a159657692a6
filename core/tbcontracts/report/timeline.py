"""The timeline: what happened in equal parts of the time, counted and added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tbcontracts.events import JournalEntry
from tbcontracts.report.replay import Replay

PARTS = 48
LANES = ("held", "posted", "moved", "refused")
_LANE_OF = {
    "held": "held",
    "settled": "posted",
    "charged": "posted",
    "denied": "refused",
    "would_deny": "refused",
}


class Part(NamedTuple):
    """What happened in one part of the time."""

    from_at: float
    until_at: float
    counts: dict[str, int]
    """How often, by lane: "held", "posted", "moved", "refused"."""
    amounts: dict[str, int]
    unknown: dict[str, int]
    """How many of them have an amount that nobody knows, and that is in no sum."""
    consumed: int | None
    """What was consumed in all at its end; None while the journal does not tell."""
    held: int | None
    total: int
    """The budget of the scope at its end."""


class TimelineView(NamedTuple):
    """What happened when."""

    parts: tuple[Part, ...]
    by_time: bool
    """Whether parts are equal times; else all happened at one moment, and they are equal numbers
    of entries."""


@dataclass(slots=True)
class _Open:
    """A part that is being filled."""

    counts: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    consumed: int | None = None
    held: int | None = None
    total: int = 0

    def count(self, lane: str, amount: int | None) -> None:
        self.counts[lane] = self.counts.get(lane, 0) + 1
        if amount is None:
            self.unknown[lane] = self.unknown.get(lane, 0) + 1
            return
        self.amounts[lane] = self.amounts.get(lane, 0) + amount


class Timeline:
    """Fills the parts of the time, entry by entry."""

    def __init__(self, entries: Sequence[JournalEntry]) -> None:
        self._entries = len(entries)
        self._from = entries[0].at if entries else 0.0
        self._span_s = entries[-1].at - self._from if entries else 0.0
        self._by_time = self._span_s > 0
        self._parts: list[_Open] = []

    def hear(self, position: int, entry: JournalEntry, replay: Replay) -> None:
        """Take the next entry; the replay has just heard it."""
        part = self._part(position, entry)
        lane = _LANE_OF.get(entry.kind)
        if lane is not None:
            part.count(lane, entry.asked)
        elif entry.kind == "expired" and entry.facts.get("charged"):
            part.count("posted", entry.amount)
        if entry.moves:
            part.count("moved", sum(move.amount for move in entry.moves))
        part.consumed, part.held, part.total = replay.consumed, replay.held, replay.total

    def _part(self, position: int, entry: JournalEntry) -> _Open:
        """Return the part that an entry falls into; those that were passed stay as they were."""
        if self._by_time:
            index = int((entry.at - self._from) / self._span_s * PARTS)
        else:
            index = position if self._entries <= PARTS else position * PARTS // self._entries
        index = min(index, PARTS - 1)
        while len(self._parts) <= index:
            before = self._parts[-1] if self._parts else _Open()
            same = (before.consumed, before.held, before.total)
            self._parts.append(_Open({}, {}, {}, *same))
        return self._parts[index]

    def view(self) -> TimelineView:
        """Return the parts."""
        width_s = self._span_s / PARTS
        return TimelineView(
            tuple(
                Part(
                    self._from + width_s * index,
                    self._from + width_s * (index + 1),
                    part.counts,
                    part.amounts,
                    part.unknown,
                    part.consumed,
                    part.held,
                    part.total,
                )
                for index, part in enumerate(self._parts)
            ),
            self._by_time,
        )
