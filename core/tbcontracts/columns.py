"""Columns of text that stay in line, whatever names are made of."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

NAME_COLUMNS_MAX = 40
"""How wide the name of an agent may be in a table; elsewhere it stands whole."""
_CUT = "..."
_JOINER, _AS_EMOJI = "\u200d", "\ufe0f"
_NO_WIDTH = ("Mn", "Me", "Cf")
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def width_of(text: str) -> int:
    """Return how many columns a terminal gives to a text: two for each wide character.

    What is joined to an emoji, or colours its skin, is drawn with it. Terminals that know no such
    emoji draw their parts one by one: there a line with one is longer than the others.
    """
    if text.isascii():
        return len(text)
    return sum(_widths(text))


def _widths(text: str) -> list[int]:
    """Return the columns of each character."""
    widths: list[int] = []
    base = -1  # the character that others are drawn with
    joined = False
    for at, letter in enumerate(text):
        width = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        coloured = ord(letter) in _SKIN_TONES and base >= 0 and widths[base] > 1
        if joined or coloured or unicodedata.category(letter) in _NO_WIDTH:
            width = 0
        if letter == _AS_EMOJI and base >= 0 and widths[base]:
            widths[base] = 2
        joined = letter == _JOINER
        widths.append(width)
        base = at if width else base
    return widths


def padded(text: str, width: int, align: str = "<") -> str:
    """Fill a text up with blanks to so many columns of a terminal."""
    blanks = " " * (width - width_of(text))
    return f"{text}{blanks}" if align == "<" else f"{blanks}{text}"


def aligned(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Return rows of cells as lines, each column as wide as its widest cell.

    Args:
        rows: All with as many cells.
        align: A letter for each column: "<" text, ">" numbers.
    """
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths, align)).rstrip() for row in rows]


def shortened(text: str, width: int = NAME_COLUMNS_MAX) -> str:
    """Return a text in at most so many columns, without its middle: ends tell names apart."""
    widths = _widths(text)
    if sum(widths) <= width:
        return text
    room = width - len(_CUT)
    head = _that_fit(widths, room // 2)
    tail = _that_fit(widths[::-1], room - room // 2)
    # Nothing that is drawn with a character before it stands first.
    while tail and not widths[len(text) - tail]:
        tail -= 1
    return f"{text[:head]}{_CUT}{text[len(text) - tail :]}"


def _that_fit(widths: Iterable[int], room: int) -> int:
    """Return how many characters fit."""
    number = 0
    for width in widths:
        room -= width
        if room < 0:
            break
        number += 1
    return number


def in_a_column(names: Iterable[str]) -> list[str]:
    """Return names as a table shows them: the longest shortened, unless two would look the same."""
    whole = list(names)
    short = [shortened(name) for name in whole]
    alike = Counter(short)
    return [name if alike[cut] > 1 else cut for name, cut in zip(whole, short, strict=True)]
