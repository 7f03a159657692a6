"""What all scopes of a manager share: contracts, the store, listeners, and what was learned."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tbcontracts.books import Statement
from tbcontracts.commands import (
    ChangeContract,
    Command,
    Open,
    Reply,
    agent_of,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ContractConflictError, UnknownAgentError
from tbcontracts.events import JournalEntry
from tbcontracts.heartbeat import Heartbeat
from tbcontracts.listeners import Listeners
from tbcontracts.posting import Posting
from tbcontracts.registry import Registry
from tbcontracts.settings import Settings
from tbcontracts.sizing import Forecast
from tbcontracts.stores.base import Applied, Clock, Store
from tbcontracts.thresholds import Thresholds
from tbcontracts.waiting import Lines

if TYPE_CHECKING:
    from tbcontracts.outbox import Outbox
    from tbcontracts.pricing import PriceSource

_OWN_FIELDS = ("max_output_tokens", "on_exceeded", "confidence_key", "warn_at")
_OPENED_MAX = 10_000
_FORECASTS_MAX = 10_000
_CHANGE_TRIES_MAX = 1_000
_log = logging.getLogger("tbcontracts")


class Engine(Registry, Posting):
    """Sends commands to the store, and sees to it that a scope's contracts are open before.

    Args:
        store: Where the books are.
        settings: How the manager behaves.
        outbox: Where what was used is noted before it is sent, if anywhere.
        clock: Returns seconds since the epoch, where the store does not.
        prices: What models cost, if anybody knows.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        outbox: Outbox | None = None,
        clock: Clock | None = None,
        prices: PriceSource | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.prices = prices
        self._begin_registry(settings.unit)
        self.listeners = Listeners()
        self.thresholds: Thresholds | None = None
        if settings.warn_at:
            self._watch()
        self.lines = Lines()
        self.heartbeat = Heartbeat(self.apply)
        self._opened: dict[str, int] = {}
        self._forecasts: dict[str, Forecast] = {}
        self._begin_posting(outbox, clock or time.time)

    def register(self, contract: BudgetContract) -> BudgetContract:
        """Add a contract; the same one again changes nothing."""
        registered = super().register(contract)
        if registered.warn_at:
            self._watch()
        return registered

    def _watch(self) -> None:
        """See to it that somebody looks at the shares of budgets that are used."""
        with self._lock:
            if self.thresholds is None:
                unit = self.settings.unit
                self.thresholds = Thresholds(self.settings.warn_at, self.contract_in, unit)
                self.listeners.add(self.thresholds)

    def change(self, scope: str, name: str, fields: Mapping[str, Any]) -> BudgetContract:
        """Change an agent's contract in a scope, and for scopes that are opened later.

        The scope's own contract is changed, whichever it has, and so is the one that is known here:
        they may differ. If somebody else changes the scope's at the same time, it is read again.
        """
        for _ in range(_CHANGE_TRIES_MAX):
            command = self._change(scope, self.read(scope), name, fields)
            with suppress(ContractConflictError):
                self.apply(scope, command)
                break
        else:
            raise _ever_changing(scope, name)
        return self._changed(scope, command, fields)

    async def achange(self, scope: str, name: str, fields: Mapping[str, Any]) -> BudgetContract:
        """Change an agent's contract, without blocking the event loop; see `change`."""
        for _ in range(_CHANGE_TRIES_MAX):
            command = self._change(scope, await self.aread(scope), name, fields)
            with suppress(ContractConflictError):
                await self.aapply(scope, command)
                break
        else:
            raise _ever_changing(scope, name)
        return self._changed(scope, command, fields)

    def _change(
        self, scope: str, books: Statement, name: str, fields: Mapping[str, Any]
    ) -> ChangeContract:
        """Return the command that changes an agent's contract on these books.

        Raises:
            TypeError: There is no such field, or a value has the wrong type.
            ValueError: A value is out of range, there or with the contract that is known here.
        """
        if "agent_name" in fields:
            msg = f"Agent {name!r} keeps its name; only its terms are changed."
            raise TypeError(msg)
        here = self.contract_in(scope, name) or self.contract(name)
        changed = here.changed(**fields)
        was = next((one.contract for one in books.accounts if one.agent == name), None)
        if was is None:
            return ChangeContract(changed)
        # What the books do not act on is this process's own, and may hold a function of it.
        own = {field: getattr(here, field) for field in _OWN_FIELDS}
        return ChangeContract(was.changed(**{**own, **fields}), was)

    def _changed(
        self, scope: str, command: ChangeContract, fields: Mapping[str, Any]
    ) -> BudgetContract:
        """Note a change that is on the books; return the scope's contract."""
        name = command.contract.agent_name
        with self._lock:
            if name in self.contracts:
                self.contracts[name] = self.contracts[name].changed(**fields)
            else:
                self.patterns.note(scope, command.contract)
        if command.contract.warn_at:
            self._watch()
        return command.contract

    def apply(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a scope."""
        command = self._keyed(command)
        if self._opened.get(scope) != self._version:
            self.open(scope)
        if self.patterns and (seen := self.first_seen(scope, command)):
            self.open(scope, seen)
        try:
            applied = self.store.apply(scope, command)
        except UnknownAgentError:
            if not self._was_dropped(scope, command):
                raise
            self.open(scope)
            applied = self.store.apply(scope, command)
        return self._told(scope, applied)

    async def aapply(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a scope, without blocking the event loop."""
        command = self._keyed(command)
        if self._opened.get(scope) != self._version:
            await self.aopen(scope)
        if self.patterns and (seen := self.first_seen(scope, command)):
            await self.aopen(scope, seen)
        try:
            applied = await self.store.aapply(scope, command)
        except UnknownAgentError:
            if not self._was_dropped(scope, command):
                raise
            await self.aopen(scope)
            applied = await self.store.aapply(scope, command)
        return self._told(scope, applied)

    def open(self, scope: str, seen: BudgetContract | None = None) -> None:
        """Open all contracts in a scope as one step, with that of an agent seen first."""
        version, contracts = self._to_open(scope, seen)
        opened = self.store.apply(scope, Open(contracts, self.settings.unit))
        self._told(scope, opened)
        if self.store.durable:
            for change in self._differing(scope, opened, contracts, self.store.read(scope)):
                self._told(scope, self.store.apply(scope, change))
        self._note_opened(scope, version, seen)

    async def aopen(self, scope: str, seen: BudgetContract | None = None) -> None:
        """Open all contracts in a scope, without blocking the event loop; see `open`."""
        version, contracts = self._to_open(scope, seen)
        opened = await self.store.aapply(scope, Open(contracts, self.settings.unit))
        self._told(scope, opened)
        if self.store.durable:
            statement = await self.store.aread(scope)
            for change in self._differing(scope, opened, contracts, statement):
                self._told(scope, await self.store.aapply(scope, change))
        self._note_opened(scope, version, seen)

    def read(self, scope: str) -> Statement:
        """Return a scope's books, opening its contracts if nobody has yet."""
        if self._opened.get(scope) != self._version:
            self.open(scope)
        return self.store.read(scope) or self._read_again(scope)

    async def aread(self, scope: str) -> Statement:
        """Return a scope's books, without blocking the event loop."""
        if self._opened.get(scope) != self._version:
            await self.aopen(scope)
        return await self.store.aread(scope) or self._read_again(scope)

    def forecast(self, agent: str) -> Forecast:
        """Return what is known of an agent's answers."""
        forecast = self._forecasts.get(agent)
        if forecast is None:
            if len(self._forecasts) >= _FORECASTS_MAX:
                self._forecasts.pop(next(iter(self._forecasts)), None)
            forecast = self._forecasts.setdefault(agent, Forecast())
        return forecast

    def add_listener(self, listener: Callable[[str, JournalEntry], object]) -> Callable[[], None]:
        """Add a listener; returns a function that takes it away."""
        return self.listeners.add(listener)

    def _to_open(
        self, scope: str, seen: BudgetContract | None
    ) -> tuple[int, tuple[BudgetContract, ...]]:
        """Return what to open: of an agent seen first its own contract alone."""
        if seen is not None:
            return self._version, (seen,)
        with self._lock:
            return self._version, (*self.contracts.values(), *self.patterns.seen(scope))

    def _differing(
        self,
        scope: str,
        opened: Applied,
        contracts: tuple[BudgetContract, ...],
        statement: Statement | None,
    ) -> list[ChangeContract]:
        """Compare what is registered here with what the books were opened with, elsewhere perhaps.

        Returns:
            The changes to make, where the settings say so.

        Raises:
            ContractConflictError: They differ, and the settings say to raise.
        """
        if statement is None:
            return []
        if statement.seq > len(opened.entries) and scope not in self._opened:
            _log.info("Scope %r continues books of %d entries.", scope, statement.seq)
        there = {account.agent: account.contract for account in statement.accounts}
        for name, contract in there.items():
            if self.patterns and contract is not None and name not in self.contracts:
                self.patterns.take_place(scope, name)  # made by an earlier or another process
        changes: list[ChangeContract] = []
        for contract in contracts:
            kept = there.get(contract.agent_name)
            if kept is None or kept.terms == contract.terms:
                continue
            difference = (
                f"Agent {contract.agent_name!r} has another contract in scope {scope!r} than in "
                f"this process: {kept.said} there, {contract.said} here."
            )
            on_change = self.settings.on_contract_change
            if on_change == "raise":
                helps = 'What helps: on_contract_change="apply" or "keep", or another scope.'
                raise ContractConflictError(difference, remedy=helps)
            if on_change == "apply":
                changes.append(ChangeContract(contract))
                continue
            self.warn_once(
                f"contract {scope} {contract}",
                f"{difference} The scope keeps the contract it was opened with; "
                f"manager.change_contract({contract.agent_name!r}, ...) or "
                'on_contract_change="apply" changes it.',
            )
        return changes

    def _note_opened(self, scope: str, version: int, seen: BudgetContract | None) -> None:
        """Remember that a scope is open; forgetting only costs one more command."""
        with self._lock:
            if seen is not None:
                self.patterns.note(scope, seen)
                return
            if len(self._opened) >= _OPENED_MAX:
                self._opened.clear()
            self._opened[scope] = version

    def _was_dropped(self, scope: str, command: Command) -> bool:
        """Return whether the store dropped an idle scope whose agent is registered here."""
        agent = agent_of(command)
        return agent in self.contracts or (
            agent is not None and self.patterns.is_seen(scope, agent)
        )

    def _read_again(self, scope: str) -> Statement:
        """Open and read a scope that the store dropped because it was idle."""
        self.open(scope)
        statement = self.store.read(scope)
        assert statement is not None, scope
        return statement

    def _told(self, scope: str, applied: Applied) -> Reply:
        """Tell those who wait for budget, and the listeners, what was written."""
        if self.outages.since is not None:
            self.outages.over()
            self.backlog.post_soon()
        self.lines.heard(scope, applied.entries)
        if applied.entries and self.listeners:
            self.listeners.tell(scope, applied.entries)
        return applied.reply


def _ever_changing(scope: str, name: str) -> ContractConflictError:
    """Return the error for a contract that others change faster than it can be read."""
    msg = f"The contract of agent {name!r} in scope {scope!r} kept changing while it was read."
    return ContractConflictError(msg, remedy="What helps: change it from one place at a time.")
