"""How commands say things: aligned tables, JSON, and colours where somebody looks at them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from tbcontracts.checks import printable

F = TypeVar("F", bound=Callable[..., Any])

FOUND = 1
"""The exit code where something was found; 0 is good, 2 used wrongly or not done."""


def json_option(command: F) -> F:
    """Give a command the option to print JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(
        command
    )


def found() -> NoReturn:
    """End a command that has said what it found.

    Raises:
        Exit: Always, with the code 1.
    """
    raise click.exceptions.Exit(FOUND)


def say(text: str = "") -> None:
    """Print a line."""
    click.echo(text)


def say_json(data: Any) -> None:
    """Print data for programs, readable for people too."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))


def say_json_line(data: Any) -> None:
    """Print data for programs as one line among others."""
    click.echo(json.dumps(data, ensure_ascii=False, default=str))


def good(text: str) -> str:
    """Colour what is well."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Colour what is not well."""
    return click.style(text, fg="red")


def odd(text: str) -> str:
    """Colour what is worth a look."""
    return click.style(text, fg="yellow")


def faint(text: str) -> str:
    """Step back what is not to be read first."""
    return click.style(text, dim=True)


def table(rows: Iterable[Sequence[object]], *, align: str) -> list[str]:
    """Align the rows of a table; the first is its heading, and gets a line below.

    Args:
        rows: Their cells; numbers get thousands separators, names are made printable.
        align: A letter for each column: "<" text, ">" numbers.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(padded, row, widths, align)).rstrip() for row in cells]
    return [lines[0], faint("-" * max(map(width_of, lines))), *lines[1:]]


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else printable(str(value))


def padded(text: str, width: int, align: str = "<") -> str:
    """Fill a text up with blanks to so many columns of a terminal."""
    blanks = " " * (width - width_of(text))
    return f"{text}{blanks}" if align == "<" else f"{blanks}{text}"


def width_of(text: str) -> int:
    """Return how many columns a terminal gives to a text: two for each wide character."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if _is_wide(letter) else 1 for letter in text
    )


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
