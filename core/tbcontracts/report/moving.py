"""A live view that moves, drawn by `rich`, which is imported here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tbcontracts.checks import printable
from tbcontracts.columns import NAME_COLUMNS_MAX, shortened, width_of
from tbcontracts.events import JournalEntry
from tbcontracts.money import plural
from tbcontracts.report.displays import (
    BAR_WIDTH,
    LEGEND,
    bar,
    entry_line,
    headline,
    numbers_of,
    warning_line,
)
from tbcontracts.report.live import Crossed, Frame, LiveBooks
from tbcontracts.report.replay import Line
from tbcontracts.report.words import Amounts

AGENTS_MAX = 30
WARNINGS_MAX = 5
_SHARE_OF_HEIGHT = 4  # of a screen for warnings, at most, and as much for events
_NAME_LEAST, _BAR_LEAST = 10, 8
_BETWEEN, _BRACKETS = 2, 2
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
        return Text("") if self._books is None else Picture(self._books.frame(), self._trouble)


class Picture:
    """A frame as `rich` draws it, in the room that a terminal has just then.

    What is told once comes first: trouble, warnings and what happened last are there on the
    smallest screen, and the least important agents are counted where there is no line for them.
    A bar that has no room is left out, and never cut: its letters are shares. Names are text and
    never markup.
    """

    def __init__(self, frame: Frame, trouble: str | None = None) -> None:
        self._frame = frame
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield its parts."""
        frame, height, width = self._frame, options.size.height, options.max_width
        amounts = Amounts(frame.unit)
        head: list[Text] = [Text(headline(frame), style="bold"), Text("")]
        most = max(1, height // _SHARE_OF_HEIGHT)
        foot = [Text(LEGEND, style="dim"), Text("")]
        if self._trouble is not None:
            foot.append(Text(f"no answer, asking again: {self._trouble}", style="bold red"))
        warnings = frame.warnings[-min(WARNINGS_MAX, most) :]
        foot += [Text(warning_line(one, amounts), style="bold red") for one in warnings]
        foot += [
            Text(entry_line(entry, amounts), style=_event_style(entry))
            for entry in frame.last[-most:]
        ]
        taken = sum(len(text.wrap(console, width)) for text in (*head, *foot))
        room = max(1, height - taken - 1)
        shown = min(AGENTS_MAX, len(frame.lines), room)
        table = _table(frame.lines[:shown], frame, width)
        # One line is for the number of those that are left out; numbers may need two where it is
        # narrow.
        while shown > 1 and _height(console, options, table) > room - (shown < len(frame.lines)):
            shown -= 1
            table = _table(frame.lines[:shown], frame, width)
        yield from head
        yield table
        if (more := len(frame.lines) - shown) > 0:
            yield Text(f"and {plural(more, 'more agent')}", style="dim")
        yield from foot


def _height(console: Console, options: ConsoleOptions, table: Table) -> int:
    return len(console.render_lines(table, options, pad=False))


def _table(lines: Sequence[Line], frame: Frame, width: int) -> Table:
    """Return the agents with their bars, as long as they may be, and their numbers."""
    amounts = Amounts(frame.unit)
    numbers = [numbers_of(line, frame, amounts) for line in lines]
    widest = max(map(width_of, numbers), default=0)
    left = max(_NAME_LEAST, min(NAME_COLUMNS_MAX, width // 3, width - widest - _BETWEEN))
    names = [shortened(printable(line.agent), left) for line in lines]
    beside = max(map(width_of, names), default=0) + widest
    long = min(BAR_WIDTH, width - beside - 2 * _BETWEEN - _BRACKETS)
    table = Table.grid(padding=(0, _BETWEEN))
    for name, line, said in zip(names, lines, numbers, strict=True):
        cells = [Text(name, style="bold", no_wrap=True), Text(said)]
        if long >= _BAR_LEAST:
            pieces = [(text, _STYLES[kind]) for kind, text in bar(line, long)]
            cells.insert(1, Text.assemble("[", *pieces, "]"))
        table.add_row(*cells)
    return table


def _event_style(entry: JournalEntry) -> str:
    return "red" if entry.kind in ("denied", "would_deny") else "dim"
