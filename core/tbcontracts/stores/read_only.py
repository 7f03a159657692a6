"""A store to look at: it answers questions and takes no commands."""

from __future__ import annotations

from typing import NoReturn

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Capabilities, Store, only_read


class ReadOnlyStore:
    """Another store, of which nothing but its books can be had.

    Args:
        store: Whose books; closed with this one.
        place: How errors call it.
    """

    def __init__(self, store: Store, place: str) -> None:
        self._store = store
        self._place = place
        self.in_process = store.in_process
        self.durable = store.durable

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises, as it was opened."""
        return self._store.capabilities

    def apply(self, scope: str, command: Command) -> NoReturn:  # noqa: ARG002 - it is refused
        """Refuse a command.

        Raises:
            StoreError: Always.
        """
        raise only_read(self._place)

    async def aapply(self, scope: str, command: Command) -> NoReturn:
        """Refuse a command.

        Raises:
            StoreError: Always.
        """
        self.apply(scope, command)

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        return self._store.read(scope)

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, without blocking the event loop."""
        return await self._store.aread(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq` that are still kept, oldest first."""
        return self._store.journal(scope, after_seq)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`, without blocking the event loop."""
        return await self._store.ajournal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        return self._store.resolve(scope, key)

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key, without blocking the event loop."""
        return await self._store.aresolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes, sorted.

        Raises:
            StoreError: The store does not list them.
        """
        if not hasattr(self._store, "scopes"):
            msg = f"{self._place} does not list its scopes."
            raise StoreError(msg, remedy="What helps: to name one.")
        return self._store.scopes()

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch."""
        return self._store.now()

    def close(self) -> None:
        """Let go of connections and files."""
        self._store.close()
