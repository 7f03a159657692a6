"""How a live view looks: lines of text, lines of JSON, or a table that moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tbcontracts.checks import printable
from tbcontracts.columns import in_a_column, padded, width_of
from tbcontracts.entry_words import in_words, on_behalf_of
from tbcontracts.events import JournalEntry
from tbcontracts.report.live import Crossed, Frame, LiveBooks
from tbcontracts.report.replay import Line
from tbcontracts.report.words import Amounts, clock, share

BAR_WIDTH = 30
Say = Callable[[str], object]
"""Prints a line."""
Piece = tuple[str, str]
"""What a part of a bar means, and its letters."""
_LETTERS = {"consumed": "#", "held": "=", "free": "-", "reserve": "r", "over": "!"}
LEGEND = "# consumed  = held  - remaining  r reserve  ! overdrawn"


class PlainDisplay:
    """One line for each change."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._amounts = Amounts("tokens")

    def begin(self, books: LiveBooks, crossed: Sequence[Crossed]) -> None:
        """Print the books as they are found."""
        frame = books.frame()
        self._amounts = Amounts(frame.unit)
        for line in frame_lines(frame):
            self._say(line)
        self._warn(crossed)

    def change(self, entries: Sequence[JournalEntry], crossed: Sequence[Crossed]) -> None:
        """Print what happened."""
        for entry in entries:
            self._say(entry_line(entry, self._amounts))
        self._warn(crossed)

    def trouble(self, text: str) -> None:
        """Say that the store does not answer."""
        self._say(f"no answer, asking again: {text}")

    def end(self, why: str) -> None:
        """Say that it ends."""
        self._say(f"End: {why}.")

    def _warn(self, crossed: Sequence[Crossed]) -> None:
        for one in crossed:
            self._say(warning_line(one, self._amounts))


class JsonDisplay:
    """One line of JSON for each change, for programs."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._books: LiveBooks | None = None

    def begin(self, books: LiveBooks, crossed: Sequence[Crossed]) -> None:
        """Print the books as they are found."""
        self._books = books
        self.change((), crossed)

    def change(self, entries: Sequence[JournalEntry], crossed: Sequence[Crossed]) -> None:
        """Print the books and what happened."""
        assert self._books is not None
        data = frame_data(self._books.frame())
        data["entries"] = [entry.as_dict() for entry in entries]
        data["warnings"] = [one._asdict() for one in crossed]
        self._print(data)

    def trouble(self, text: str) -> None:
        """Say that the store does not answer."""
        self._print({"trouble": text})

    def end(self, why: str) -> None:
        """Say that it ends."""
        self._print({"end": why})

    def _print(self, data: dict[str, Any]) -> None:
        self._say(json.dumps(data, ensure_ascii=False, default=str))


def frame_data(frame: Frame) -> dict[str, Any]:
    """Return a frame as plain data."""
    accounts: dict[str, dict[str, int | None]] = {}
    for line in frame.lines:
        numbers = line.numbers
        if numbers is None:
            continue
        accounts[line.agent] = {
            **numbers._asdict(),
            "remaining": remaining(line),
            "priority": line.priority,
            "min_reserve": line.reserve,
            "denials": frame.denials.get(line.agent, 0),
        }
    return {
        "scope": frame.scope,
        "unit": frame.unit,
        "seq": frame.seq,
        "closed": frame.closed,
        "pool": frame.pool,
        "total": frame.total,
        "consumed": frame.consumed,
        "accounts": accounts,
    }


def remaining(line: Line) -> int:
    """Return what an agent has left."""
    numbers = line.numbers
    return 0 if numbers is None else numbers.allocated - numbers.consumed - numbers.held


def bar(line: Line, width: int = BAR_WIDTH) -> list[Piece]:
    """Return an agent's bar in pieces: consumed, held, what is free, and its reserve at the end.

    What is there at all gets a letter, and so does what is left.
    """
    numbers = line.numbers
    if numbers is None or line.tracked or numbers == (0, 0, 0):
        return [("free", " " * width)]
    left = remaining(line)
    if left < 0:
        whole = max(1, numbers.consumed + numbers.held)
        over = _part(-left, whole, width)
        used = width - over
        held = min(_part(numbers.held, whole, width), used)
        sizes = {"consumed": used - held, "held": held, "over": over}
    else:
        whole = max(1, numbers.allocated)
        consumed = _part(numbers.consumed, whole, width)
        held = min(_part(numbers.held, whole, width), width - consumed)
        rest = width - consumed - held
        kept = min(rest, _part(min(left, line.reserve or 0), whole, width))
        sizes = {"consumed": consumed, "held": held, "free": rest - kept, "reserve": kept}
    return [(kind, _LETTERS[kind] * size) for kind, size in sizes.items() if size]


def _part(amount: int, whole: int, width: int) -> int:
    """Return how many letters an amount gets: at least one if there is any, all only if all is."""
    if amount <= 0:
        return 0
    if amount >= whole:
        return width
    return min(width - 1, max(1, round(width * amount / whole)))


def frame_lines(frame: Frame) -> list[str]:
    """Return a frame as lines of text."""
    amounts = Amounts(frame.unit)
    names = in_a_column(printable(line.agent) for line in frame.lines)
    wide = max(map(width_of, names), default=0)
    lines = [headline(frame), ""]
    for name, line in zip(names, frame.lines, strict=True):
        drawn = "".join(letters for _, letters in bar(line))
        lines.append(f"{padded(name, wide)}  [{drawn}]  {numbers_of(line, frame, amounts)}")
    return [*lines, "", LEGEND]


def headline(frame: Frame) -> str:
    """Return what a frame is about, and its sums."""
    amounts = Amounts(frame.unit)
    closed = ", closed" if frame.closed else ""
    sums = f"budget {amounts.short(frame.total)}, pool {amounts.short(frame.pool)}"
    return (
        f"Scope {printable(frame.scope)!r}{closed}: {amounts.full(frame.consumed)} consumed, "
        f"{sums}, entry {frame.seq:,}"
    )


def numbers_of(line: Line, frame: Frame, amounts: Amounts) -> str:
    """Return an agent's numbers in words."""
    numbers = line.numbers
    if numbers is None:
        return "not known"
    if line.tracked:
        text = f"{amounts.short(numbers.consumed)}, no limit"
    else:
        text = f"{amounts.short(numbers.consumed)} of {amounts.short(numbers.allocated)}"
        text += f" ({share(numbers.consumed, numbers.allocated)})"
    if numbers.held:
        text += f", {amounts.short(numbers.held)} held"
    if not line.tracked and remaining(line) < 0:
        text += f", overdrawn by {amounts.short(-remaining(line))}"
    refused = frame.denials.get(line.agent, 0)
    return f"{text}, {refused:,} refused" if refused else text


def entry_line(entry: JournalEntry, amounts: Amounts) -> str:
    """Return what happened as one line."""
    who = printable(entry.agent or on_behalf_of(entry))
    left = "" if entry.agent is None else f"; {amounts.short(entry.remaining)} left"
    said = in_words(entry, amounts.unit)
    return f"{clock(entry.at, like=entry.at)}  {who}: {said}{left}"


def warning_line(one: Crossed, amounts: Amounts) -> str:
    """Return a passed threshold as one line."""
    return (
        f"WARNING: {printable(one.agent)} has consumed {share(one.consumed, one.allocated)} of its "
        f"budget ({amounts.short(one.consumed)} of {amounts.short(one.allocated)}), past "
        f"{100 * one.threshold:g} %"
    )
