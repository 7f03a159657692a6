"""The page as a file: made from a manager or a store, and written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tbcontracts.books import Statement
from tbcontracts.checks import without_folder
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.manager import BudgetManager
from tbcontracts.report.html import is_report, page
from tbcontracts.report.view import view_of
from tbcontracts.stores.base import Store

Source = BudgetManager | Store
"""Where books are read from."""

_BEGINNING = 1_000


def write_report(
    source: Source,
    path: str | os.PathLike[str] = "report.html",
    *,
    scope: str | None = None,
    replace: bool = False,
) -> Path:
    """Write the report page of a scope: one HTML file that needs nothing else.

    Args:
        source: A manager, or a store.
        path: Where to. A report that is there already is replaced.
        scope: The name of the books; a manager's own if it is left out.
        replace: Replace any other file too.

    Returns:
        The path of the file.

    Raises:
        ConfigurationError: No scope was named, a file that is no report would be lost, or there is
            no such folder.
        StoreError: There is no such scope, or the store does not answer.
        OSError: The file cannot be written.

    Example:
        `write_report(manager, "report.html")`
    """
    return put_page(report_page(source, scope=scope), path, replace=replace)


async def awrite_report(
    source: Source,
    path: str | os.PathLike[str] = "report.html",
    *,
    scope: str | None = None,
    replace: bool = False,
) -> Path:
    """Write the report page without blocking on the store; see `write_report`."""
    text = await areport_page(source, scope=scope)
    return put_page(text, path, replace=replace)


def report_page(source: Source, *, scope: str | None = None) -> str:
    """Return the report page of a scope as HTML; see `write_report`.

    Raises:
        ConfigurationError: No scope was named.
        StoreError: There is no such scope, or the store does not answer.
    """
    if isinstance(source, BudgetManager):
        manager = source if scope is None else source.scope(scope)
        statement, journal = manager.statement(), manager.journal()
        return _page(statement, journal, manager.scope_name)
    name = _named(scope)
    # The books first: entries that come between the two are left out, and none is missing.
    found = _there(source.read(name), name)
    return _page(found, source.journal(name), name)


async def areport_page(source: Source, *, scope: str | None = None) -> str:
    """Return the report page of a scope without blocking on the store; see `report_page`."""
    if isinstance(source, BudgetManager):
        manager = source if scope is None else source.scope(scope)
        statement, journal = await manager.astatement(), await manager.ajournal()
        return _page(statement, journal, manager.scope_name)
    name = _named(scope)
    found = _there(await source.aread(name), name)
    return _page(found, await source.ajournal(name), name)


def _page(statement: Statement, journal: tuple[JournalEntry, ...], scope: str) -> str:
    return page(view_of(statement, journal, scope))


def _named(scope: str | None) -> str:
    if scope is None:
        msg = "A store has many scopes, and none was named."
        raise ConfigurationError(msg, remedy='What helps: scope="default".')
    return scope


def _there(statement: Statement | None, scope: str) -> Statement:
    if statement is None:
        msg = f"The store has no scope {scope!r}."
        raise StoreError(msg, remedy="What helps: the name under which it was opened.")
    return statement


def _checked(path: str | os.PathLike[str], *, replace: bool) -> Path:
    """Return where to write, unless something else would be lost there."""
    target = Path(path)
    if target.is_dir():
        msg = f"{str(target)!r} is a folder, and a report is a file."
        raise ConfigurationError(msg, remedy=f"What helps: {str(target / 'report.html')!r}.")
    if missing := without_folder(target):
        raise ConfigurationError(missing, remedy="What helps: make it, or another path.")
    if replace or not target.exists():
        return target
    if target.is_file():
        with target.open(encoding="utf-8", errors="replace") as file:
            if is_report(file.read(_BEGINNING)):
                return target
    msg = f"{str(target)!r} is there already, and is no report; it was left as it is."
    raise ConfigurationError(msg, remedy="What helps: another path, replace=True, or --replace.")


def put_page(text: str, path: str | os.PathLike[str], *, replace: bool = False) -> Path:
    """Write a page as a file that others only ever see whole; see `write_report`.

    Raises:
        ConfigurationError: A file that is no report would be lost, or there is no such folder.
        OSError: The file cannot be written.
    """
    target = _checked(path, replace=replace)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    except OSError as error:  # in the name that was given, not in that of the file beside it
        _drop(beside)
        raise OSError(error.errno, error.strerror, str(target)) from error
    except BaseException:
        _drop(beside)
        raise
    return target


def _drop(beside: Path) -> None:
    """Leave nothing half written behind."""
    with suppress(OSError):
        beside.unlink(missing_ok=True)
