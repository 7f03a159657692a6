"""What a store is, and how one is found by its URL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.urls import has_odd_port, masked, without_password

Clock = Callable[[], float]
"""Returns seconds since the epoch."""

_LAST_SECOND = 253_402_300_800  # the end of the year 9999, the last that scopes can name
ENTRY_POINT_GROUP = "tbcontracts.stores"


class Applied(NamedTuple):
    """A command's reply, and what it wrote to the journal."""

    reply: Reply
    """What came of it."""
    entries: tuple[JournalEntry, ...]
    """What was written, oldest first."""


class Capabilities(NamedTuple):
    """What a store promises of its books; what none of them can, the documentation says."""

    durability: Literal["none", "process", "power"]
    """What an acknowledged command survives: not even the end of the process, the end of every
    process, or a power cut too."""
    cross_process: Literal["none", "host", "network"]
    """Who may share the books: the threads of one process, the processes of a host, many hosts."""
    witness: bool
    """Whether the journal's numbers are the order in which commands took effect, so that what many
    did at the same time can be replayed."""


@runtime_checkable
class Store(Protocol):
    """Keeps the books of many scopes; each command is one atomic step.

    A store carries out commands just as `tbcontracts.rules.step` does, on its own clock. An answer
    that it cannot give is a `StoreError`.
    """

    in_process: bool
    """Whether commands never leave the host, so that an event loop may wait for them."""
    durable: bool
    """Whether the books outlive the process, and other processes may share them."""

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises, as it was opened."""
        ...

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command on a scope's books; a scope comes to be when it is first named."""
        ...

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Do the same without blocking the event loop."""
        ...

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        ...

    async def aread(self, scope: str) -> Statement | None:
        """Do the same without blocking the event loop."""
        ...

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        ...

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Do the same without blocking the event loop."""
        ...

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it was never seen."""
        ...

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Do the same without blocking the event loop."""
        ...

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes, sorted; for people who look, not for each call."""
        ...

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch."""
        ...

    def close(self) -> None:
        """Let go of connections and files."""
        ...


_NEEDED = (
    *("in_process", "durable", "capabilities", "now", "close"),
    *("apply", "aapply", "read", "aread", "journal", "ajournal", "resolve", "aresolve"),
)


def is_store(value: object) -> bool:
    """Return whether books can be kept in something.

    A store that does not list its scopes is one, too: only people who look need that.
    """
    return all(hasattr(value, name) for name in _NEEDED)


class About(NamedTuple):
    """What there is to know of the place where a store keeps its books."""

    kind: str
    """In a word or two, such as "SQLite file"."""
    place: str
    """The URL without its password and its options."""
    software: str
    """What answers there, with its version."""
    layout: int | None
    """The version of what the books are written in; None where nothing was written yet."""
    layout_known: int
    """The version that this package writes."""
    entries: int
    """Journal entries that are kept, in all scopes."""
    size_bytes: int | None
    """How much room the books take; None where nobody can say."""
    dangers: tuple[str, ...] = ()
    """What may cost books there, in sentences."""


def only_read(place: str) -> StoreError:
    """Return the error for a command that is given to a store which was opened for reading."""
    msg = f"The ledger {place} was opened for reading only."
    return StoreError(msg, remedy="What helps: the store opened without read_only or mode=ro.")


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


def _memory_or_installed(scheme: str) -> Callable[..., Store]:
    """Return what opens the memory store, or one that another package has installed.

    Raises:
        ConfigurationError: None is installed for this scheme.
    """
    if scheme == "memory":
        from tbcontracts.stores.memory import MemoryStore

        return lambda _, clock: MemoryStore(clock=clock)
    # Imported here: looking at installed packages is slow, and the memory store needs none.
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if scheme not in found:
        known = ", ".join(sorted({"memory", "postgresql", "redis", "sqlite", *found}))
        shown = scheme or "(no scheme)"
        msg = f"No store is installed for the URL scheme {shown!r}; known: {known}."
        raise ConfigurationError(msg, remedy='What helps: store="memory://".')
    factory: Callable[..., Store] = found[scheme].load()
    return factory


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
