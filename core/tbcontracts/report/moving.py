"""A live view that moves, drawn by `rich`, which is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tbcontracts.checks import printable
from tbcontracts.events import JournalEntry
from tbcontracts.money import plural
from tbcontracts.report.displays import (
    LEGEND,
    bar,
    entry_line,
    headline,
    numbers_of,
    warning_line,
)
from tbcontracts.report.live import Crossed, Frame, LiveBooks
from tbcontracts.report.words import Amounts

AGENTS_MAX = 30
_STYLES = {
    "consumed": "blue",
    "held": "yellow",
    "free": "dim",
    "reserve": "green",
    "over": "bold red",
}


class MovingDisplay:
    """A table that is drawn anew four times a second; `rich` does that on a thread of its own."""

    def __init__(self, file: TextIO) -> None:
        self._console = Console(file=file)
        self._books: LiveBooks | None = None
        self._trouble: str | None = None
        self._live: Live | None = None

    def begin(self, books: LiveBooks, crossed: Sequence[Crossed]) -> None:
        """Draw the books as they are found, from now on."""
        del crossed  # they are in the frame
        self._books = books
        self._live = Live(get_renderable=self.draw, console=self._console, refresh_per_second=4)
        self._live.start(refresh=True)

    def change(self, entries: Sequence[JournalEntry], crossed: Sequence[Crossed]) -> None:
        """Draw it at the next turn."""
        del entries, crossed
        self._trouble = None

    def trouble(self, text: str) -> None:
        """Say that the store does not answer."""
        self._trouble = text

    def end(self, why: str) -> None:
        """Leave the last picture, and say that it is the last."""
        if self._live is not None:
            self._live.stop()
        self._console.print(Text(f"End: {why}."))

    def draw(self) -> RenderableType:
        """Return what is to be seen now."""
        if self._books is None:
            return Text("")
        drawn = drawing(self._books.frame())
        if self._trouble is None:
            return drawn
        return Group(drawn, Text(f"no answer, asking again: {self._trouble}", style="bold red"))


def drawing(frame: Frame) -> RenderableType:
    """Return a frame as something that `rich` draws; names are text and never its markup."""
    amounts = Amounts(frame.unit)
    table = Table.grid(padding=(0, 2))
    for line in frame.lines[:AGENTS_MAX]:
        pieces = Text.assemble("[", *[(text, _STYLES[kind]) for kind, text in bar(line)], "]")
        name = Text(printable(line.agent), style="bold", overflow="ellipsis", no_wrap=True)
        table.add_row(name, pieces, Text(numbers_of(line, frame, amounts)))
    parts: list[RenderableType] = [Text(headline(frame), style="bold"), Text(""), table]
    if (more := len(frame.lines) - AGENTS_MAX) > 0:
        parts.append(Text(f"and {plural(more, 'more agent')}", style="dim"))
    parts += [Text(LEGEND, style="dim"), Text("")]
    parts += [Text(warning_line(one, amounts), style="bold red") for one in frame.warnings[-5:]]
    parts += [Text(entry_line(entry, amounts), style=_event_style(entry)) for entry in frame.last]
    return Group(*parts)


def _event_style(entry: JournalEntry) -> str:
    return "red" if entry.kind in ("denied", "would_deny") else "dim"
