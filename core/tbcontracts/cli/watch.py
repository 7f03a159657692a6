"""`tbc watch`: a scope while it moves."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from tbcontracts.books import Statement
from tbcontracts.cli.numbers import Seconds, shares
from tbcontracts.cli.output import json_option, pause, say
from tbcontracts.cli.reading import (
    books_of,
    journal_of,
    open_books,
    pick_scope,
    scope_argument,
    store_argument,
)
from tbcontracts.events import JournalEntry

if TYPE_CHECKING:
    from tbcontracts.report.live import Display

_sleep = pause
_KILLED = 128  # shells count the number of a signal from there


@click.command(short_help="Watch a scope while it moves.")
@store_argument
@scope_argument
@click.option(
    "--warn-at",
    default="",
    callback=shares,
    metavar="SHARES",
    help="Warn once when an agent has consumed this share of its budget: 0.8,0.95.",
)
@click.option(
    "--every",
    "every_s",
    type=Seconds(),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Show the books once, and end.")
@click.option("--plain", is_flag=True, help="Lines of text, in a terminal too.")
@json_option
def watch(
    url: str,
    scope: str | None,
    warn_at: tuple[float, ...],
    every_s: float,
    *,
    once: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Watch a scope while it moves, until it is closed or you press Ctrl-C.

    In a terminal, and with rich installed, it is a table that moves; otherwise one line for each
    change. --json prints one line of JSON for each change.
    """
    from tbcontracts.report.displays import JsonDisplay, PlainDisplay
    from tbcontracts.report.following import display_for, follow  # slow to import
    from tbcontracts.report.live import LiveBooks

    store = open_books(url)
    name = pick_scope(store, scope, url)
    books = LiveBooks(name, books_of(store, name, url), warn_at=warn_at)
    display: Display = JsonDisplay(say) if as_json else PlainDisplay(say)
    if once:
        display.begin(books, books.crossed())
        return
    if not as_json:
        display = display_for(sys.stdout, plain=plain)

    def read(after_seq: int) -> tuple[Statement, Sequence[JournalEntry]]:
        statement = books_of(store, name, url)
        news = journal_of(store, name, url, after_seq) if statement.seq > after_seq else ()
        return statement, news

    try:
        with _ends_at_sigterm():
            follow(books, read, display, every_s=every_s, sleep=_sleep)
    except (KeyboardInterrupt, SystemExit):
        display.end("stopped by you; the books go on")
        raise
    except BrokenPipeError:  # there is nobody to tell
        raise
    except BaseException:
        display.end("it could not go on")  # and a terminal has its cursor back
        raise


@contextmanager
def _ends_at_sigterm() -> Iterator[None]:
    """Let `timeout` and service managers end it as Ctrl-C does: a terminal is left as it was."""

    def end(number: int, _: object) -> None:
        sys.exit(_KILLED + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # elsewhere Python lets nobody set this
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
