"""Books that are followed while they change: in this process as a listener, elsewhere by asking."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TextIO

from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.manager import BudgetManager
from tbcontracts.report.displays import PlainDisplay
from tbcontracts.report.live import Display, LiveBooks, Read

_LAST_WORDS_S = 2.0


def display_for(file: TextIO, *, plain: bool = False) -> Display:
    """Return what suits a file: a moving table for a terminal where `rich` is installed."""
    if not plain and file.isatty() and find_spec("rich") is not None:
        from tbcontracts.report.moving import MovingDisplay

        return MovingDisplay(file)
    return PlainDisplay(lambda line: print(line, file=file, flush=True))


def follow(
    books: LiveBooks,
    read: Read,
    display: Display,
    *,
    every_s: float = 1.0,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show a scope until it is closed.

    A store that does not answer is asked again; that is said once, and again after it answered.
    When it answers, what is shown is shown anew, though nothing changed: the trouble is over.

    Args:
        books: The books, as they were found.
        read: Reads what is new.
        display: Shows it.
        every_s: Seconds between two looks.
        sleep: Waits; for tests.
    """
    display.begin(books, books.crossed())
    silent = False
    while not books.closed:
        sleep(every_s)
        try:
            statement, entries = read(books.seq)
        except StoreError as error:
            if not silent:
                display.trouble(str(error))
            silent = True
            continue
        was_silent, silent = silent, False
        refused = sum(account.denials for account in statement.accounts)
        if statement.seq == books.seq and refused == books.refused and not was_silent:
            continue
        news = [entry for entry in entries if books.seq < entry.seq <= statement.seq]
        for entry in news:
            books.hear(entry)
        books.seed(statement)  # repeated refusals write no entry, and some may have been dropped
        display.change(news, books.crossed())
    display.end("the scope is closed")


@contextlib.contextmanager
def live_view(
    manager: BudgetManager, *, warn_at: Sequence[float] = (), file: TextIO | None = None
) -> Iterator[LiveBooks]:
    """Show the books of a manager while a block runs.

    With `rich` and a terminal it is a table that moves, otherwise one line for each change. It
    hears of changes as a listener, after the fact, and delays no call.

    Args:
        manager: Whose books; entries of its other scopes are left out.
        warn_at: Shares of an agent's budget, above 0 and up to 1; passing one is told once.
        file: Where to; standard error if it is left out.

    Raises:
        TypeError: `warn_at` is no list.
        ValueError: A threshold is no number above 0 and up to 1.

    Example:
        `with live_view(manager, warn_at=[0.8, 0.95]): manager.record_usage("writer", 10)`
    """
    scope = manager.scope_name
    books = LiveBooks(scope, manager.statement(), warn_at=warn_at)
    began_at = books.seq
    display = display_for(file or sys.stderr)

    def listen(of_scope: str, entry: JournalEntry) -> None:
        if of_scope != scope or entry.seq <= began_at:
            return
        if not books.hear(entry):  # others write to these books too
            books.seed(manager.scope(scope).statement())
        display.change([entry], books.crossed())

    remove = manager.add_listener(listen)
    try:
        display.begin(books, books.crossed())
        yield books
    finally:
        manager.flush_listeners(_LAST_WORDS_S)
        remove()
        display.end("the view ended")
