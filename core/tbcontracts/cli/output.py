"""How commands say things: aligned tables, JSON, and colours where somebody looks at them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from tbcontracts.checks import printable
from tbcontracts.columns import aligned, width_of

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


def pause(seconds: float) -> None:
    """Wait between two looks, no longer than somebody reads what is printed.

    Raises:
        BrokenPipeError: The reader of a pipe went away, as `head` does when it has enough.
    """
    import select  # not on every system has it what is needed

    try:
        asked = select.poll()
        asked.register(1, 0)  # only for what nobody needs to ask for: errors
    except (AttributeError, OSError):
        time.sleep(seconds)
        return
    events = sum(found for _, found in asked.poll(seconds * 1_000))
    if events & (select.POLLERR | select.POLLHUP):
        raise BrokenPipeError
    if events:  # it is closed, and was so from the start
        time.sleep(seconds)


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
    lines = aligned(cells, align)
    return [lines[0], faint("-" * max(map(width_of, lines))), *lines[1:]]


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else printable(str(value))
