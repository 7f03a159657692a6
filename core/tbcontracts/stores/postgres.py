"""The PostgreSQL store: books that many hosts share, as safe as the server is.

A command is a transaction of two trips (`stores.postgres_plan`) that begins with the lock on its
scope's row: one scope is written by one process at a time, others go on beside it. Commands that
wait in one process share a transaction, plain and awaited ones alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from tbcontracts.books import Statement
from tbcontracts.commands import Command, Reply
from tbcontracts.events import JournalEntry
from tbcontracts.stores import postgres_plan as plans
from tbcontracts.stores.base import About, Applied, Capabilities, Clock, only_read
from tbcontracts.stores.postgres_access import Ledger
from tbcontracts.stores.postgres_link import PostgresOptions, about
from tbcontracts.stores.postgres_plan import Plan
from tbcontracts.stores.sql import Statements

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
    # As the server is by default; `synchronous_commit=off` in the URL or there takes "power" away.
    capabilities: Capabilities = Capabilities(
        durability="power", cross_process="network", witness=True
    )

    _pid: int
    _ledger: Ledger

    def __init__(self, options: PostgresOptions, *, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock
        self._sql = Statements(prefix=f"{options.schema}.", mark="%s", lock=" FOR UPDATE")
        self._begin()

    @classmethod
    def from_url(
        cls, url: str, *, clock: Clock | None = None, read_only: bool = False
    ) -> PostgresStore:
        """Open the database that a URL names; see `PostgresOptions.from_url`."""
        return cls(PostgresOptions.from_url(url, read_only=read_only), clock=clock)

    # --- commands ---------------------------------------------------------------------------------

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once the server has committed it."""
        return self._writable().line(scope).carry_out(scope, command)

    async def aapply(self, scope: str, command: Command) -> Applied:
        """Carry out a command without blocking the event loop.

        Cancelled before its turn, it is not carried out.
        """
        return await self._writable().line(scope).acarry_out(scope, command)

    def _writable(self) -> Ledger:
        if self._options.read_only:
            raise only_read(self._options.shown)
        return self._here()

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
        """Return the names of all scopes, sorted."""
        return self._ask(lambda: plans.scopes(self._sql))

    def about(self) -> About:
        """Return what there is to know of the database."""
        return self._ask(lambda: about(self._options, self._sql))

    def _ask(self, make: Callable[[], Plan[T]]) -> T:
        return self._here().ask(make)

    async def _aask(self, make: Callable[[], Plan[T]]) -> T:
        ledger = self._here()
        return await ledger.clerks.do(lambda: ledger.ask(make))

    # --- the rest ---------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the server's time, as this clock and its last answer tell it."""
        if self._clock is not None:
            return self._clock()
        ledger = self._here()
        if ledger.behind_s is None:
            ledger.note_time(self._ask(plans.time_there))
        return time.time() + (ledger.behind_s or 0.0)

    def close(self) -> None:
        """Close the connections that nobody uses, and let the clerks go."""
        ledger = self._here()
        ledger.close()
        ledger.clerks.dismiss()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._ledger = Ledger(self._options, self._sql, self._clock)

    def _here(self) -> Ledger:
        """In a forked child begin anew: the parent's connections are not ours to use or close."""
        if self._pid != os.getpid():
            _inherited.append(self._ledger)
            self._begin()
        return self._ledger
