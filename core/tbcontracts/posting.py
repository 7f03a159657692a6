"""What must not get lost: what was used reaches the books, even if the store is away just then.

And what may go on without the store, where the settings say so.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from tbcontracts.backlog import Backlog
from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Granted,
    Open,
    Refuse,
    Reply,
    Reserve,
    TopUp,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ContractConflictError, StoreError, UnknownAgentError
from tbcontracts.ids import new_id
from tbcontracts.kept import Kept, Postable
from tbcontracts.outages import Outages
from tbcontracts.settings import Settings
from tbcontracts.stores.base import Applied, Store

if TYPE_CHECKING:
    from tbcontracts.outbox import Outbox

AnyCommand = TypeVar("AnyCommand", bound=Command)


class Posting(ABC):
    """An engine as those see it who post what was used."""

    store: Store
    settings: Settings
    contracts: dict[str, BudgetContract]
    backlog: Backlog
    outages: Outages

    def _begin_posting(self, outbox: Outbox | None, now: Callable[[], float]) -> None:
        """Begin, with what an earlier process left in the outbox."""
        self._now_here = now
        self.outages = Outages(now, self.settings.without_store)
        self.backlog = Backlog(self._send, outbox, unit=self.settings.unit, now=now)
        self.backlog.post_soon()

    @abstractmethod
    def apply(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a scope."""

    @abstractmethod
    async def aapply(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a scope, without blocking the event loop."""

    @abstractmethod
    def open(self, scope: str) -> None:
        """Open all registered contracts in a scope, as one step."""

    @abstractmethod
    def contract_in(self, scope: str, name: str) -> BudgetContract | None:
        """Return the contract that answers for a name in a scope: its own, or by pattern."""

    @abstractmethod
    def _told(self, scope: str, applied: Applied) -> Reply:
        """Tell those who wait for budget, and the listeners, what was written."""

    def post(self, scope: str, command: Postable) -> Reply:
        """Put what was used on the books, or what was not: at once, or when the store answers."""
        command = self._keyed(command)
        kept = None
        if self.outages.since is not None or not self.backlog.is_quiet:
            kept = self.backlog.note(scope, command, self._contract_in(scope, command))
            if self._goes_behind(scope, command):
                return self.backlog.keep(kept)
        try:
            reply = self.apply(scope, command)
        except BaseException as error:
            return self._not_posted(scope, command, kept, error)
        if kept is not None:
            self.backlog.done(kept)
        return reply

    async def apost(self, scope: str, command: Postable) -> Reply:
        """Do the same without blocking the event loop; cancelled, it is posted all the same."""
        command = self._keyed(command)
        kept = None
        try:
            if self.backlog.notes_on_disk:
                import asyncio

                contract = self._contract_in(scope, command)
                kept = await asyncio.to_thread(self.backlog.note, scope, command, contract)
            if self._goes_behind(scope, command):
                return self.backlog.keep(kept or self._kept(scope, command))
            reply = await self.aapply(scope, command)
        except BaseException as error:
            return self._not_posted(scope, command, kept, error)
        if kept is not None:
            self.backlog.done(kept)
        return reply

    def without_hold(self, command: Reserve, error: StoreError) -> Granted:
        """Return what stands for a hold that the store did not answer for, where calls go on.

        What the call uses is posted under the same name: the books take that for a hold whose
        limit has passed.

        Raises:
            StoreError: No call goes out that the store did not allow.
        """
        if not self.settings.goes_without_store:
            raise error
        self.outages.noticed(error, unheld=True)
        return Granted(command.hold_id, command.agent, 0, self._now_here() + command.ttl_s, (), 0)

    def refuse(self, scope: str, command: Refuse) -> Reply:
        """Put a refusal on the books, if they answer: where calls go without them, it stands."""
        try:
            return self.apply(scope, command)
        except StoreError as error:
            return self._refused(command, error)

    async def arefuse(self, scope: str, command: Refuse) -> Reply:
        """Do the same without blocking the event loop."""
        try:
            return await self.aapply(scope, command)
        except StoreError as error:
            return self._refused(command, error)

    def _refused(self, command: Refuse, error: StoreError) -> Denied:
        if not self.settings.goes_without_store:
            raise error
        self.outages.noticed(error)
        return Denied(command.agent, command.amount, 0, command.amount, command.code, 0)

    def now(self) -> float:
        """Return the time on the store's clock; on this process's, where calls go without it."""
        try:
            return self.store.now()
        except StoreError as error:
            if not self.settings.goes_without_store:
                raise
            self.outages.noticed(error)
            return self._now_here()

    def _keyed(self, command: AnyCommand) -> AnyCommand:
        """Give a command a key, where it may be sent again or its outcome may stay unknown.

        Books in this process answer at once and for good. A file does, too, but for usage it is
        better to be sure.
        """
        if self.store.in_process and not self.store.durable:
            return command
        keyed: Any = command
        if isinstance(command, (Charge, TopUp)):
            keyed = command._replace(key=command.key or new_id())
        elif isinstance(command, Reserve) and not self.store.in_process:
            keyed = command._replace(key=command.key or command.hold_id)
        return keyed  # type: ignore[no-any-return]

    def _goes_behind(self, scope: str, command: Postable) -> bool:
        """Return whether a command has to wait: for the store, or for an earlier one."""
        return self.outages.since is not None or self.backlog.goes_before(scope, command)

    def _kept(self, scope: str, command: Postable) -> Kept:
        return self.backlog.note(scope, command, self._contract_in(scope, command))

    def _contract_in(self, scope: str, command: Postable) -> BudgetContract | None:
        return self.contract_in(scope, getattr(command, "agent", ""))

    def _not_posted(
        self, scope: str, command: Postable, kept: Kept | None, error: BaseException
    ) -> Reply:
        """Keep what the store did not answer for; raise anything else.

        Where the caller was cancelled or interrupted, it may be on the books, and is sent again.
        """
        answered = isinstance(error, Exception) and not isinstance(error, StoreError)
        if answered:
            if kept is not None:
                self.backlog.done(kept)
            raise error
        reply = self.backlog.keep(kept or self._kept(scope, command))
        if not isinstance(error, StoreError):
            raise error
        self.outages.noticed(error)
        return reply

    def _send(self, kept: Kept) -> Reply:
        """Post what was kept. Its books may be new, and its agent known to nobody here."""
        scope, command = kept.scope, kept.command
        try:
            applied = self.store.apply(scope, command)
        except UnknownAgentError:
            if getattr(command, "agent", "") in self.contracts:
                with suppress(ContractConflictError):  # which the next command says again
                    self.open(scope)
            elif kept.contract is not None:
                self._told(
                    scope, self.store.apply(scope, Open((kept.contract,), kept.contract.unit))
                )
            else:
                raise
            applied = self.store.apply(scope, command)
        return self._told(scope, applied)


def open_outbox(path: str | os.PathLike[str] | None) -> Outbox | None:
    """Open an outbox, if one is wished; only then its module is loaded.

    Raises:
        ConfigurationError: It cannot be used.
    """
    if path is None:
        return None
    from tbcontracts.outbox import Outbox

    return Outbox(path)
