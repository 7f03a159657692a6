"""A store whose answers a test holds back, as a network may."""

from __future__ import annotations

import asyncio
import threading

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied, Capabilities
from tbcontracts.stores.memory import MemoryStore

_PATIENCE_S = 60.0


class SlowStore:
    """Books in memory that behave like those of a network store.

    A command takes effect at once; while `hold_back` is in force its answer waits for `let_go`:
    the awaited twins leave the event loop to others meanwhile, the others block their thread.

    Attributes:
        blocked: How many commands blocked a thread in which an event loop ran.
        waits: Set whenever an awaited answer is held back.
    """

    in_process = False
    durable = False
    capabilities: Capabilities = MemoryStore.capabilities

    def __init__(self) -> None:
        self._books = MemoryStore()
        self._free = threading.Event()
        self._free.set()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.blocked = 0
        self.waits = asyncio.Event()

    def hold_back(self) -> None:
        """Hold back all answers from now on."""
        self._free.clear()
        self.waits.clear()

    def let_go(self) -> None:
        """Give all answers."""
        self._free.set()
        waiting, self._waiting = self._waiting, []
        for loop, answered in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(answered.set)

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; blocks while answers are held back.

        Raises:
            TimeoutError: Nobody let it go for a minute.
        """
        applied = self._books.apply(scope, command)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            self.blocked += 1
        if not self._free.wait(_PATIENCE_S):
            raise TimeoutError
        return applied

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; awaits while answers are held back."""
        applied = self._books.apply(scope, command)
        await asyncio.sleep(0)  # no answer over a network is there at once
        if not self._free.is_set():
            answered = asyncio.Event()
            self._waiting.append((asyncio.get_running_loop(), answered))
            self.waits.set()
            await answered.wait()
        return applied

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books, for the test to look at."""
        return self._books.read(scope)

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books, for the test to look at."""
        return self._books.read(scope)

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`."""
        return self._books.journal(scope, after_seq)

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`."""
        return self._books.journal(scope, after_seq)

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key."""
        return self._books.resolve(scope, key)

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key."""
        return self._books.resolve(scope, key)

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes."""
        return self._books.scopes()

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._books.now()

    def close(self) -> None:
        """Forget everything."""
        self._books.close()
