"""What a store is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry

Clock = Callable[[], float]
"""Returns seconds since the epoch."""


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
