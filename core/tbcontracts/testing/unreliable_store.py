"""A store that fails when a test says so."""

from __future__ import annotations

from collections.abc import Callable

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import OutcomeUnknownError, StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied, Capabilities, Clock
from tbcontracts.stores.memory import MemoryStore


class UnreliableStore:
    """Books in memory behind a connection that a test can cut.

    Args:
        in_process: What it says of itself: whether an event loop may wait for it.
        durable: What it says of itself: whether the books outlive the process.
        clock: Returns seconds since the epoch.

    Attributes:
        down: While it is true nothing answers, and nothing takes effect.
        loses_answers: While it is true commands take effect, and nobody is told.
        asked: How often something was asked of it, answered or not.
        before: Called with each command before it takes effect; what it raises, the caller gets.
    """

    capabilities: Capabilities = MemoryStore.capabilities

    def __init__(
        self, *, in_process: bool = False, durable: bool = True, clock: Clock | None = None
    ) -> None:
        self.in_process = in_process
        self.durable = durable
        self.books = MemoryStore(clock=clock)
        self.down = False
        self.loses_answers = False
        self.asked = 0
        self.before: Callable[[Command], object] = lambda _: None

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command.

        Raises:
            StoreError: The store is down.
            OutcomeUnknownError: The answer is lost.
        """
        self._reach()
        self.before(command)
        applied = self.books.apply(scope, command)
        if self.loses_answers:
            key: str = getattr(command, "key", None) or getattr(command, "hold_id", None) or ""
            raise OutcomeUnknownError(key, "The connection was lost before the store answered.")
        return applied

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command."""
        return self.apply(scope, command)

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books."""
        self._reach()
        return self.books.read(scope)

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books."""
        return self.read(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`."""
        self._reach()
        return self.books.journal(scope, after_seq)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`."""
        return self.journal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key."""
        self._reach()
        return self.books.resolve(scope, key)

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key."""
        return self.resolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes."""
        self._reach()
        return self.books.scopes()

    def now(self) -> float:
        """Return the time."""
        self._reach()
        return self.books.now()

    def close(self) -> None:
        """Forget everything."""
        self.books.close()

    def _reach(self) -> None:
        self.asked += 1
        if self.down:
            msg = "The store cannot be reached."
            raise StoreError(msg, remedy="What helps: plug it in again.")
