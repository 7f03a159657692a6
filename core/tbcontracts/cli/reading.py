"""Which books a command is about: found, opened, and never made by looking at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tbcontracts.books import Statement
from tbcontracts.checks import check_name, nearest
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.settings import expand_scope
from tbcontracts.stores import Store, open_store
from tbcontracts.stores.opening import check_shared
from tbcontracts.stores.urls import masked

_LISTED_MAX = 20

store_argument = click.argument("url", metavar="STORE")
scope_argument = click.argument("scope", metavar="[SCOPE]", required=False)


def open_books(url: str, *, writes: bool = False) -> Store:
    """Open a store that is there; it is closed with the command that runs.

    Args:
        url: A store's URL, or the path of a SQLite file.
        writes: Whether commands will be given to it; else it is opened for reading only.

    Raises:
        ConfigurationError: It is no URL, or one whose books nobody else can see.
        StoreError: There is no ledger, or nothing answers.
    """
    url = as_url(url)
    # Opened for reading first, because opening to write would make what is not there.
    store = open_store(url, read_only=True)
    if writes:
        store.now()  # a server is asked for the first time
        store.close()
        store = open_store(url)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(store.close)
    return store


def as_url(url: str) -> str:
    """Return the URL of a store; a SQLite file may be named by its path alone.

    Raises:
        ConfigurationError: It is neither, or means books in the memory of a process.
    """
    if url.startswith("memory:"):
        msg = "memory:// means books inside one process: from outside nothing of them can be seen."
        raise ConfigurationError(msg, remedy='What helps: store="sqlite:///budget.db" there.')
    scheme, is_url, _ = url.partition("://")
    if is_url:
        if scheme.isalnum():  # else it is none, and may hold what is not to be shown
            check_shared(scheme.lower())
        return url
    if url and Path(url).is_dir():
        msg = f"{url!r} is a folder, and no store."
        raise ConfigurationError(msg, remedy=f"What helps: a file in it, {Path(url, 'budget.db')}.")
    if not Path(url).is_file():
        msg = f"{url!r} is no store: neither a URL nor a file that is there."
        helps = "What helps: sqlite:///budget.db, redis://host:6379, postgresql://host/database."
        raise ConfigurationError(msg, remedy=helps)
    return file_url(url)


def file_url(path: str) -> str:
    """Return the URL of a SQLite file; what has a meaning in a URL is written otherwise there."""
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}"


def pick_scope(store: Store, scope: str | None, url: str) -> str:
    """Return the scope that is meant: the one that is named, or the only one there is.

    Args:
        store: Where it must be.
        scope: Its name, which may hold a period such as `{utc:%Y-%m}`; None for the only one.
        url: How errors call the store.

    Raises:
        StoreError: There is no such scope, or none at all, or there are several to choose from.
    """
    if scope is None:
        return _only_scope(store.scopes(), masked(url))
    name = check_name(expand_scope(scope, store.now()), "scope name")
    if store.read(name) is None:
        raise _no_such_scope(name, store, url)
    return name


def books_of(store: Store, scope: str, url: str) -> Statement:
    """Return the books of a scope that must be there.

    Raises:
        StoreError: There is no such scope.
    """
    with _whole(f"The books of scope {scope!r} in {masked(url)}"):
        statement = store.read(scope)
    if statement is None:
        raise _no_such_scope(scope, store, url)
    return statement


def journal_of(store: Store, scope: str, url: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
    """Return the journal of a scope, as far as it is kept.

    Raises:
        DamagedError: It is there, and cannot be read.
    """
    with _whole(f"The journal of scope {scope!r} in {masked(url)}"):
        return store.journal(scope, after_seq)


class DamagedError(StoreError):
    """What stands in a store is not what a store writes."""

    code = "damaged"


@contextmanager
def _whole(what: str) -> Iterator[None]:
    """Say of what cannot be read that it is damaged."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        msg = f"{what} cannot be read, because somebody changed it: {error}."
        raise DamagedError(msg, remedy="What helps: a copy from before.") from None


def pick_agent(statement: Statement, agent: str, scope: str) -> str:
    """Return an agent of a scope in the one spelling of its name.

    Raises:
        StoreError: The scope has no such agent.
    """
    name = check_name(agent)
    known = [account.agent for account in statement.accounts]
    if name not in known:
        msg = f"Scope {scope!r} has no agent {name!r}."
        raise StoreError(msg, remedy=_choice(name, known))
    return name


def about(store: Store) -> Any:
    """Return what a store says of its place (`About`); None where it says nothing."""
    ask = getattr(store, "about", None)
    return None if ask is None else ask()


def _only_scope(scopes: tuple[str, ...], place: str) -> str:
    if len(scopes) == 1:
        return scopes[0]
    if not scopes:
        msg = f"{place} has no scope yet."
        helps = "A scope comes to be with the first call in it, or manager.report(): registering "
        raise StoreError(msg, remedy=f"{helps}an agent writes nothing.")
    msg = f"{place} has {len(scopes):,} scopes, and one must be named:"
    raise StoreError(msg, remedy=f"{_listed(scopes)}.")


def _no_such_scope(name: str, store: Store, url: str) -> StoreError:
    msg = f"{masked(url)} has no scope {name!r}."
    try:
        return StoreError(msg, remedy=_choice(name, store.scopes()))
    except StoreError:  # it does not list them
        return StoreError(msg, remedy="What helps: its name, as the program has it.")


def _choice(name: str, known: tuple[str, ...] | list[str]) -> str:
    """Say what there is instead of a name that is not there."""
    if not known:
        return "It has none."
    near = nearest(name, known)
    if near is not None and len(known) == 1:
        return f"Did you mean {near!r}?"
    meant = "" if near is None else f"Did you mean {near!r}? "
    return f"{meant}There {'is' if len(known) == 1 else 'are'} {_listed(known)}."


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = len(names) - _LISTED_MAX
    listed = ", ".join(map(repr, names[:_LISTED_MAX]))
    return f"{listed} and {more:,} more" if more > 0 else listed
