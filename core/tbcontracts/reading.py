"""What can be read off the books, at once and awaited, and who is told of what is written there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from tbcontracts.backlog import Unposted
from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import check_amount, check_name
from tbcontracts.commands import Reply
from tbcontracts.compat import LedgerView, takes_agent_name
from tbcontracts.door_calls import CallDoor
from tbcontracts.errors import ConfigurationError
from tbcontracts.events import JournalEntry
from tbcontracts.listeners import Listener
from tbcontracts.statement import print_statement
from tbcontracts.thresholds import ThresholdPassed


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
    def unposted(self) -> Unposted:
        """What this process used and could not post yet, in all scopes of this manager.

        It is posted as soon as the store answers; see `flush`.
        """
        return self._engine.backlog.view(self._engine.outages.unheld)

    def resolve(self, key: str) -> Reply | None:
        """Return what came of the command with this key, or None if it never took effect.

        Args:
            key: The key that was given, or the one that an `OutcomeUnknownError` names.

        Returns:
            The first reply; that of a charge which still waits for the store has the `seq` 0.

        Raises:
            StoreError: The store does not answer; what came of it is still unknown.
        """
        scope, key = self.scope_name, check_name(key, "key")
        return self._engine.backlog.find(scope, key) or self._engine.store.resolve(scope, key)

    @property
    def ledger(self) -> LedgerView:
        """The books as the published package's ledger: read and charged, not adjusted."""
        return LedgerView(self._as_manager())

    def print_report(self, file: TextIO | None = None) -> None:
        """Print who spent what, who gave to whom, and what was refused."""
        statement, journal = self.statement(), self.journal()
        self._print(statement, journal, file)

    def _print(
        self, statement: Statement, journal: tuple[JournalEntry, ...], file: TextIO | None
    ) -> None:
        out, asked = file or sys.stdout, self._engine.prices is not None
        print_statement(
            statement,
            journal,
            self.scope_name,
            out,
            self.unposted,
            shows_cost=asked,
            observes=self.settings.enforcement == "observe",
        )

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Have a function called with (scope, journal entry) for everything that happens.

        It runs on a thread of its own, after the fact; it can neither break nor delay a call.

        Returns:
            A function that takes the listener away again.

        Raises:
            TypeError: It cannot be called, or would have to be awaited.
        """
        return self._engine.add_listener(listener)

    def on_threshold(self, function: Callable[[ThresholdPassed], object]) -> Callable[[], None]:
        """Have a function called when an agent has used one of the shares in `warn_at`.

        Once for each agent, scope and threshold; again only after the agent came clearly (5 points)
        below it, by a top-up or a transfer. On the listeners' thread: it delays no call.

        Returns:
            A function that takes it away again.

        Raises:
            ConfigurationError: Neither this manager nor a contract of it has `warn_at`.
            TypeError: It cannot be called, or would have to be awaited.
        """
        if self._engine.thresholds is None:
            msg = "This manager has no thresholds to tell of."
            helps = "What helps: BudgetManager(warn_at=[0.8, 0.95]), or first a contract with some."
            raise ConfigurationError(msg, remedy=helps)
        return self._engine.thresholds.add(function)

    def flush_listeners(self, timeout_s: float | None = None) -> bool:
        """Wait until the listeners heard all that happened so far; return whether they did.

        A listener cannot wait for itself: there it returns False at once.
        """
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
        self._print(statement, journal, file)

    async def aresolve(self, key: str) -> Reply | None:
        """Return what came of the command with this key; see `BudgetManager.resolve`."""
        scope, key = self.scope_name, check_name(key, "key")
        waits = self._engine.backlog.find(scope, key)
        return waits or await self._engine.store.aresolve(scope, key)
