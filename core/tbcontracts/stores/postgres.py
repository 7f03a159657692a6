"""The PostgreSQL store: books that many hosts share, as safe as the server is.

A command is a transaction of two trips (`stores.postgres_plan`) that begins with the lock on its
scope's row: one scope is written by one process at a time, others go on beside it. Commands that
wait in one process share a transaction.

The plain methods and the awaited ones each have connections and books of their own; the version in
every row tells each what the others have changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores import postgres_plan as plans
from tbcontracts.stores.base import Applied, Clock
from tbcontracts.stores.postgres_access import Awaited, Ledger, Plain
from tbcontracts.stores.postgres_link import PostgresOptions
from tbcontracts.stores.postgres_plan import Plan
from tbcontracts.stores.sql import Statements

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
_inherited: list[object] = []
"""What a forked child got from its parent and must neither use nor close."""


class PostgresStore:
    """Keeps books in PostgreSQL.

    Args:
        options: Which database, and where in it.
        clock: Returns seconds since the epoch, instead of the server's own clock; for tests.

    Raises:
        ImportError: psycopg is not installed.
    """

    in_process = False
    durable = True

    _pid: int
    _plain: Plain
    _awaited: WeakKeyDictionary[asyncio.AbstractEventLoop, Awaited]

    def __init__(self, options: PostgresOptions, *, clock: Clock | None = None) -> None:
        self._clock = clock
        self._sql = Statements(prefix=f"{options.schema}.", mark="%s", lock=" FOR UPDATE")
        self._ledger = Ledger(options, self._sql, clock)
        self._begin()

    @classmethod
    def from_url(cls, url: str, *, clock: Clock | None = None) -> PostgresStore:
        """Open the database that a URL names; see `PostgresOptions.from_url`."""
        return cls(PostgresOptions.from_url(url), clock=clock)

    # --- commands ---------------------------------------------------------------------------------

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once the server has committed it."""
        self._here()
        return self._plain.carry_out(scope, command)

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command without blocking the event loop.

        Cancelled before its turn, it is not carried out.
        """
        return await self._here_awaited().carry_out(scope, command)

    # --- reading ----------------------------------------------------------------------------------

    def read(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, or None if there is no such scope."""
        return self._ask(lambda: plans.statement(self._sql, scope))

    async def aread(self, scope: str) -> Statement | None:
        """Return a scope's books at one moment, without blocking the event loop."""
        return await self._aask(lambda: plans.statement(self._sql, scope))

    def journal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`, oldest first."""
        return self._ask(lambda: plans.journal(self._sql, scope, after_seq))

    async def ajournal(self, scope: str, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the entries after `after_seq`, oldest first, without blocking the event loop."""
        return await self._aask(lambda: plans.journal(self._sql, scope, after_seq))

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to an idempotency key, or None if it is not remembered."""
        return self._ask(lambda: plans.reply_to(self._sql, scope, key, self._clock))

    async def aresolve(self, scope: str, key: str) -> Reply | None:
        """Return the first reply to a key, without blocking the event loop."""
        return await self._aask(lambda: plans.reply_to(self._sql, scope, key, self._clock))

    def scopes(self) -> tuple[str, ...]:
        """Return the names of all scopes, in the order of their first use."""
        return self._ask(lambda: plans.scopes(self._sql))

    def _ask(self, make: Callable[[], Plan[T]]) -> T:
        self._here()
        return self._plain.ask(make)

    async def _aask(self, make: Callable[[], Plan[T]]) -> T:
        return await self._here_awaited().ask(make)

    # --- the rest ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the server's time, as this clock and its last answer tell it."""
        if self._clock is not None:
            return self._clock()
        if self._ledger.behind_s is None:
            self._ledger.note_time(self._ask(plans.time_there))
        return time.time() + (self._ledger.behind_s or 0.0)

    def close(self) -> None:
        """Close the plain connections; those of an event loop close with it, or by `aclose`."""
        self._plain.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and the plain ones."""
        await self._here_awaited().close()
        self.close()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._plain = Plain(self._ledger)
        self._awaited = WeakKeyDictionary()

    def _here(self) -> None:
        """In a forked child begin anew: the parent's connections are not ours to use or close."""
        if self._pid != os.getpid():
            _inherited.append((self._plain, self._awaited))
            self._begin()

    def _here_awaited(self) -> Awaited:
        import asyncio

        self._here()
        loop = asyncio.get_running_loop()
        found = self._awaited.get(loop)
        if found is None:
            found = self._awaited[loop] = Awaited(self._ledger)
        return found
