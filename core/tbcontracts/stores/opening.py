"""A store is found by its URL; each kind is imported only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tbcontracts.checks import nearest
from tbcontracts.errors import ConfigurationError
from tbcontracts.stores.base import Clock, Store
from tbcontracts.stores.urls import has_odd_port, masked, without_password

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_LAST_SECOND = 253_402_300_800  # the end of the year 9999, the last that scopes can name
ENTRY_POINT_GROUP = "tbcontracts.stores"


def open_store(url: str, *, clock: Clock | None = None, read_only: bool = False) -> Store:
    """Open a store by its URL.

    Args:
        url: "memory://" for books that live as long as the store object, "sqlite:///budget.db" for
            a file that the processes of a host share, "redis://host:6379" or
            "postgresql://host/database" for a server that many hosts share. "rediss://" is Redis
            by TLS, "unix://" by a socket, "valkey://" is Valkey. Other packages add schemes with an
            entry point in the group "tbcontracts.stores": a callable that takes the URL and the
            keyword `clock`.
        clock: Returns seconds since the epoch; for tests. A store of many hosts may have its own.
        read_only: To look at books: commands are refused, and no file, table or key is made. (What
            the store of another package makes when it is opened is its own business.)

    Raises:
        ConfigurationError: No installed store knows the URL's scheme, or `clock` is no function
            that returns seconds; it is asked once.
    """
    if not isinstance(url, str):
        msg = f"A store URL must be text, not {type(url).__name__}."
        raise ConfigurationError(msg, remedy='What helps: store="memory://".')
    if clock is not None:
        _check_clock(clock)
    scheme = scheme_of(url)
    if scheme == "sqlite":
        from tbcontracts.stores.sqlite import SqliteStore

        return SqliteStore.from_url(url, clock=clock, read_only=read_only)
    if scheme in ("postgresql", "postgres"):
        from tbcontracts.stores.postgres import PostgresStore

        return PostgresStore.from_url(url, clock=clock, read_only=read_only)
    if scheme in ("redis", "rediss", "unix", "valkey", "valkeys"):
        from tbcontracts.stores.redis import RedisStore

        return RedisStore.from_url(url, clock=clock, read_only=read_only)
    store = _memory_or_installed(scheme)(url, clock=clock)
    if not read_only:
        return store
    from tbcontracts.stores.read_only import ReadOnlyStore

    return ReadOnlyStore(store, masked(url))


def scheme_of(url: str) -> str:
    """Return the scheme of a store's URL, whether or not a store knows it.

    Raises:
        ConfigurationError: It is no URL, or its port is no number.
    """
    from urllib.parse import urlsplit  # slow to import

    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:  # brackets that are not closed, and the like
        msg = f"{masked(url)!r} is no URL: {without_password(str(error), url)}."
        raise ConfigurationError(msg, remedy='What helps: "sqlite:///budget.db".') from None
    if has_odd_port(url):
        msg = f"{masked(url)!r} has a port that is no number, or a password that reads like one."
        helps = "What helps: in a password %2F for a slash, %3F for ?, %23 for #, %40 for @."
        raise ConfigurationError(msg, remedy=helps)
    return scheme


def _memory_or_installed(scheme: str) -> Callable[..., Store]:
    """Return what opens the memory store, or one that another package has installed.

    Raises:
        ConfigurationError: None is installed for this scheme.
    """
    if scheme == "memory":
        from tbcontracts.stores.memory import MemoryStore

        return lambda _, clock: MemoryStore(clock=clock)
    found = installed()
    if scheme not in found:
        raise _not_installed(scheme, found)
    factory: Callable[..., Store] = found[scheme].load()
    return factory


_SHARED = ("postgresql", "redis", "sqlite")
_ALSO = ("memory", "postgres", "rediss", "unix", "valkey", "valkeys")


def check_url(url: str) -> None:
    """Refuse a URL that no store here can have; nothing is opened.

    Raises:
        ConfigurationError: It is no URL, or no store that is installed knows its scheme.
    """
    scheme = scheme_of(url)
    if scheme in (*_SHARED, *_ALSO) or scheme in (found := installed()):
        return
    raise _not_installed(scheme, found)


def check_shared(scheme: str) -> None:
    """Refuse a scheme that no store has, to those who look at the books of other processes.

    Raises:
        ConfigurationError: No store that is installed knows it.
    """
    if scheme in (*_SHARED, *_ALSO) or scheme in (found := installed()):
        return
    helps = "sqlite:///budget.db, redis://host:6379, postgresql://host/database"
    raise unknown_scheme(scheme, (*_SHARED, *found), helps)


def installed() -> dict[str, EntryPoint]:
    """Return the stores that other packages have installed, by their schemes."""
    # Imported here: looking at installed packages is slow, and our own stores need none.
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _not_installed(scheme: str, found: Iterable[str]) -> ConfigurationError:
    """Return the error for a scheme that nobody here has; it names the nearest."""
    known = ("memory", *_SHARED, *found)
    return unknown_scheme(scheme, known, f'store = "{nearest(scheme, known) or "memory"}://..."')


def unknown_scheme(scheme: str, known: Iterable[str], helps: str) -> ConfigurationError:
    """Return the error for a URL whose scheme no store has."""
    listed, named = ", ".join(sorted(known)), scheme or "(no scheme)"
    msg = f"No store is installed for the URL scheme {named!r}; known: {listed}."
    return ConfigurationError(msg, remedy=f"What helps: {helps}.")


def _check_clock(clock: object) -> None:
    """Ask a clock once, so that a wrong one is told where it was given and not by the first hold.

    Raises:
        ConfigurationError: It is no function that returns seconds.
    """
    remedy = "What helps: clock=time.time."
    if not callable(clock):
        msg = f"clock must be a function that returns seconds, not {type(clock).__name__}."
        raise ConfigurationError(msg, remedy=remedy)
    now = clock()
    if isinstance(now, bool) or not isinstance(now, (int, float)):
        msg = f"clock must return seconds since the epoch, and it returned {type(now).__name__}."
        raise ConfigurationError(msg, remedy=remedy)
    if not abs(now) < _LAST_SECOND:
        msg = "clock must return seconds since the epoch, and it returned no time that there is."
        raise ConfigurationError(msg, remedy=remedy)
