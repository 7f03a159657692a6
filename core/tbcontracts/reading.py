"""What can be read off the books, at once and awaited, and who is told of what is written there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import check_amount
from tbcontracts.compat import LedgerView, takes_agent_name
from tbcontracts.door_calls import CallDoor
from tbcontracts.events import JournalEntry
from tbcontracts.listeners import Listener
from tbcontracts.statement import print_statement


class Reading(CallDoor):
    """The methods of the manager that change nothing on the books."""

    @takes_agent_name
    def remaining(self, name: str) -> int:
        """Return what an agent may still spend, without what it could borrow.

        Raises:
            UnknownAgentError: The agent has no contract.
        """
        return self._account(self.statement(), name).remaining

    def report(self) -> dict[str, dict[str, int]]:
        """Return allocated, consumed and remaining of each agent."""
        return self._as_report(self.statement())

    def accounts(self) -> dict[str, AccountView]:
        """Return all that is known of each agent, at one moment."""
        return {account.agent: account for account in self.statement().accounts}

    def statement(self) -> Statement:
        """Return the books at one moment: accounts, pool, total."""
        return self._engine.read(self.scope_name)

    def journal(self, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the journal entries after `after_seq`, oldest first.

        The memory store keeps the last 10,000 of a scope.
        """
        after_seq = check_amount(after_seq, "after_seq")
        return self._engine.store.journal(self.scope_name, after_seq)

    @property
    def ledger(self) -> LedgerView:
        """The books as the published package's ledger: read and charged, not adjusted."""
        return LedgerView(self._as_manager())

    def print_report(self, file: TextIO | None = None) -> None:
        """Print who spent what, who gave to whom, and what was refused."""
        print_statement(self.statement(), self.journal(), self.scope_name, file or sys.stdout)

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Have a function called with (scope, journal entry) for everything that happens.

        It runs on a thread of its own, after the fact; it can neither break nor delay a call.

        Returns:
            A function that takes the listener away again.
        """
        return self._engine.add_listener(listener)

    def flush_listeners(self, timeout_s: float | None = None) -> bool:
        """Wait until the listeners heard all that happened so far; return whether they did."""
        return self._engine.listeners.flush(timeout_s)

    @property
    def listener_entries_dropped(self) -> int:
        """How many entries listeners were not told of, in all scopes, because they fell behind."""
        return self._engine.listeners.dropped

    async def aremaining(self, name: str) -> int:
        """Return what an agent may still spend; see `BudgetManager.remaining`."""
        return self._account(await self.astatement(), name).remaining

    async def areport(self) -> dict[str, dict[str, int]]:
        """Return allocated, consumed and remaining of each agent."""
        return self._as_report(await self.astatement())

    async def aaccounts(self) -> dict[str, AccountView]:
        """Return all that is known of each agent, at one moment."""
        return {account.agent: account for account in (await self.astatement()).accounts}

    async def astatement(self) -> Statement:
        """Return the books at one moment: accounts, pool, total."""
        return await self._engine.aread(self.scope_name)

    async def ajournal(self, after_seq: int = 0) -> tuple[JournalEntry, ...]:
        """Return the journal entries after `after_seq`, oldest first."""
        after_seq = check_amount(after_seq, "after_seq")
        return await self._engine.store.ajournal(self.scope_name, after_seq)

    async def aprint_report(self, file: TextIO | None = None) -> None:
        """Print who spent what, who gave to whom, and what was refused."""
        statement, journal = await self.astatement(), await self.ajournal()
        print_statement(statement, journal, self.scope_name, file or sys.stdout)
