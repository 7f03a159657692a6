"""Columns stay in line, whatever names are made of, in everything that prints a table."""

from __future__ import annotations

import io
import random
import unicodedata

import pytest

from tbcontracts import BudgetManager
from tbcontracts.columns import NAME_COLUMNS_MAX, aligned, in_a_column, padded, shortened, width_of
from tbcontracts.report.displays import frame_lines
from tbcontracts.report.live import LiveBooks
from tbcontracts.roster import AgentFound, Roster

NAMES = {
    "writer": 6,
    "研究員": 6,
    "ｶﾅ": 2,
    "한국": 4,
    "cafe\u0301": 4,
    "👍": 2,
    "👍🏽": 2,
    "👩‍💻 coder": 8,
    "👨‍👩‍👧‍👦": 2,
    "🇩🇪": 2,
    "❤": 1,
    "❤️": 2,
    "1️⃣": 2,
    "": 0,
}
LONG = ["x" * 200, "研" * 66, "👩‍💻" * 22, "e\u0301" * 66, "研" * 20 + "k" * 60]


@pytest.mark.parametrize(("text", "columns"), NAMES.items(), ids=range(len(NAMES)))
def test_widths_are_what_terminals_draw(text: str, columns: int) -> None:
    """As `rich` has them, which keeps the tables of terminals."""
    cells = pytest.importorskip("rich.cells")
    assert width_of(text) == columns == cells.cell_len(text)
    assert width_of(padded(text, 12)) == width_of(padded(text, 12, ">")) == 12
    assert (padded(text, 12).rstrip(), padded(text, 12, ">").lstrip()) == (text, text)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_names_lose_their_middle(text: str) -> None:
    """Never half a character, and as much as there is room for."""
    cut = shortened(text)
    head, dots, tail = cut.partition("...")
    assert dots
    assert NAME_COLUMNS_MAX - 3 <= width_of(cut) <= NAME_COLUMNS_MAX
    assert text.startswith(head)
    assert text.endswith(tail)
    assert unicodedata.category(tail[0]) not in ("Mn", "Me", "Cf")


def test_what_fits_stays_whole() -> None:
    """To the last column."""
    for text in ("x" * 40, "研" * 20, *NAMES):
        assert shortened(text) == text
    assert shortened("x" * 41) == "x" * 18 + "..." + "x" * 19


def test_random_texts_are_never_too_wide() -> None:
    """Whatever stands beside what."""
    choices = random.Random(7)
    letters = ["a", "研", "\u0301", "\u200d", "\ufe0f", "👍", "🏽", "👩", "🇩", "❤", " "]
    for _ in range(2_000):
        text = "".join(choices.choices(letters, k=choices.randrange(60)))
        for width in (3, 4, 11, 40):
            assert width_of(shortened(text, width)) <= width


def test_names_that_would_look_the_same_stay_whole() -> None:
    """Two agents are never one in a table."""
    one, two = ("a" * 30 + middle + "z" * 30 for middle in "12")
    assert in_a_column([one, two, "b" * 70]) == [one, two, shortened("b" * 70)]


def test_rows_are_in_line() -> None:
    """Text to the left, numbers to the right."""
    assert aligned([("a", "n"), ("研究", "10")], "<>") == ["a      n", "研究  10"]


def _ends(lines: list[str], last: str) -> set[int]:
    """Return in which columns a word ends, of the lines that have it."""
    return {width_of(line[: line.index(last) + len(last)]) for line in lines if last in line}


def test_every_table_of_agents_stays_in_line() -> None:
    """The printed report, `tbc watch` in lines, and the table of `tbc doctor`."""
    manager = BudgetManager(scope="s")
    names = [name for name in NAMES if name] + [LONG[0], LONG[1][:60]]
    for name in names:
        manager.register_agent(name, max_tokens=1_234)
    manager.reserve("writer", 1).void()
    out = io.StringIO()
    manager.print_report(out)
    lines = out.getvalue().splitlines()
    assert sum("1,234" in line for line in lines) == len(names)
    assert len(_ends(lines, "1,234")) == 1
    assert max(map(width_of, lines)) < 120
    watched = frame_lines(LiveBooks("s", manager.statement()).frame())
    assert sum("]  0 of" in line for line in watched) == len(names)
    assert len(_ends(watched, "]  0 of")) == 1
    roster = Roster(tuple(AgentFound(name, "here", None, "node") for name in names))
    assert len(_ends(str(roster).splitlines()[1 : len(names) + 1], "here")) == 1
