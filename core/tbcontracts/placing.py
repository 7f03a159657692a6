"""How holds come about: on the outer manager's books and on the own ones, at both doors."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import TYPE_CHECKING

from tbcontracts.abandoned import ask_for, to_its_end
from tbcontracts.commands import Extend, Granted, Reply, Reserve
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.heartbeat import TTL_S
from tbcontracts.hold import Hold, only_if_open
from tbcontracts.ids import new_id
from tbcontracts.money import WORDS
from tbcontracts.reading import Reading
from tbcontracts.waiting import await_for, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

    from tbcontracts.manager import BudgetManager


class Placing(Reading):
    """The methods of the manager that place holds."""

    def within(self, parent: BudgetManager, *, agent: str) -> Self:
        """Return a manager each of whose holds and charges is also one on an agent of `parent`.

        That is how totals above runs are kept: a crew within a team, a run within a month.

        Raises:
            UnknownAgentError: The parent has no such agent.
            ConfigurationError: The parent is this manager or within it, counts in another unit, or
                this one has a parent.
        """
        if not isinstance(parent, Placing):
            msg = f"A manager can only be within a BudgetManager, not {type(parent).__name__}."
            raise ConfigurationError(msg, remedy="What helps: a second BudgetManager as parent.")
        name = parent._known(agent)
        if self._outer is not None:
            msg = f"This manager is within agent {self._outer[1]!r} of another one already."
            remedy = "What helps: manager.within(parent.within(grandparent, ...), ...)."
            raise ConfigurationError(msg, remedy=remedy)
        if any(outer._engine is self._engine for outer in parent._outwards()):
            msg = "A manager cannot be within itself."
            raise ConfigurationError(msg, remedy="What helps: a second BudgetManager as parent.")
        units = self.settings.unit, parent.settings.unit
        if units[0] != units[1]:
            msg = f"This manager counts {WORDS[units[0]]}, and the one it is to be within counts "
            msg += f"{WORDS[units[1]]}: what is held here could not be held there."
            raise ConfigurationError(msg, remedy=f'What helps: unit="{units[1]}" here as well.')
        view = copy.copy(self)
        view._outer = (parent, name)
        return view

    def _hold(self, command: Reserve, note: str = "", wait_s: float = 0) -> Hold:
        """Place a hold, on the outer manager's books first.

        Only a key that was used before is asked of the own books first: they know which hold it
        belongs to, and which outer hold goes with that.
        """
        if self._outer is None or self._was_asked(command):
            hold = self._own_hold(command, note, wait_s)
            return hold._go_with(self._outer_hold(command, hold.hold_id, note))
        began = time.monotonic()
        outer = self._outer_hold(command, command.hold_id, note, wait_s)
        wait_s -= time.monotonic() - began
        try:
            hold = self._own_hold(command, note, wait_s)
        except BaseException:
            if outer is not None:
                outer.void()
            raise
        if outer is not None and hold.hold_id != command.hold_id:
            outer.void()  # somebody was quicker with the same key
            outer = self._outer_hold(command, hold.hold_id, note)
        return hold._go_with(outer)

    def _outer_hold(
        self, command: Reserve, hold_id: str, note: str, wait_s: float = 0
    ) -> Hold | None:
        """Place the hold on the outer manager's books that goes with the one of this id."""
        if self._outer is None:
            return None
        parent, agent = self._outer
        return parent._hold(self._outer_command(command, parent, agent, hold_id), note, wait_s)

    def _own_hold(self, command: Reserve, note: str, wait_s: float) -> Hold:
        """Place a hold on this manager's own books."""
        scope = self.scope_name
        reply = self._asked(scope, command, wait_s)
        granted = self._open(self.granted(reply, scope, command), scope, command)
        hold = Hold(self._as_manager(), scope, command.amount, granted, note)
        self._watch(hold, command.ttl_s)
        return hold

    def _was_asked(self, command: Reserve) -> bool:
        """Return whether the key of a hold was used before on these books."""
        if command.key is None:
            return False
        try:
            return self._engine.store.resolve(self.scope_name, command.key) is not None
        except StoreError:
            return False  # whether a call may go out then is decided where the hold is asked for

    def _open(self, granted: Granted, scope: str, command: Reserve) -> Granted:
        """Return what was granted; what a key was granted before must be open still."""
        if granted.hold_id == command.hold_id:
            return granted
        try:
            with only_if_open(granted, command):
                self._engine.apply(scope, Extend(granted.hold_id, command.ttl_s))
        except StoreError as error:
            return self._engine.without_hold(command, error)
        return granted._replace(expires_at=self._engine.now() + command.ttl_s)

    def _asked(self, scope: str, command: Reserve, wait_s: float) -> Reply:
        """Ask for a hold, wait for it where that was wished, or go without it where that may be."""
        engine = self._engine
        try:
            if wait_s <= 0:
                return engine.apply(scope, command)
            priority = engine.priority_of(command.agent)
            ask = partial(engine.apply, scope)
            return wait_for(engine.lines, scope, priority, command, wait_s, ask)
        except StoreError as error:
            return engine.without_hold(command, error)

    async def _ahold(self, command: Reserve, note: str = "", wait_s: float = 0) -> Hold:
        """Place a hold, on the outer manager's books first; see `BudgetManager._hold`."""
        if self._outer is None or await self._awas_asked(command):
            hold = await self._own_ahold(command, note, wait_s)
            return hold._go_with(await self._outer_ahold(command, hold.hold_id, note))
        began = time.monotonic()
        outer = await self._outer_ahold(command, command.hold_id, note, wait_s)
        wait_s -= time.monotonic() - began
        try:
            hold = await self._own_ahold(command, note, wait_s)
        except BaseException:
            if outer is not None:
                await to_its_end(outer.avoid())
            raise
        if outer is not None and hold.hold_id != command.hold_id:
            await to_its_end(outer.avoid())  # somebody was quicker with the same key
            outer = await self._outer_ahold(command, hold.hold_id, note)
        return hold._go_with(outer)

    async def _outer_ahold(
        self, command: Reserve, hold_id: str, note: str, wait_s: float = 0
    ) -> Hold | None:
        """Place the hold on the outer manager's books that goes with the one of this id."""
        if self._outer is None:
            return None
        parent, agent = self._outer
        outer = self._outer_command(command, parent, agent, hold_id)
        return await parent._ahold(outer, note, wait_s)

    async def _own_ahold(self, command: Reserve, note: str, wait_s: float) -> Hold:
        """Place a hold on this manager's own books."""
        scope = self.scope_name
        reply = await self._aasked(scope, command, wait_s)
        granted = await self._aopen(self.granted(reply, scope, command), scope, command)
        hold = Hold(self._as_manager(), scope, command.amount, granted, note)
        self._watch(hold, command.ttl_s)
        return hold

    async def _awas_asked(self, command: Reserve) -> bool:
        """Return whether the key of a hold was used before on these books."""
        if command.key is None:
            return False
        try:
            return await self._engine.store.aresolve(self.scope_name, command.key) is not None
        except StoreError:
            return False  # whether a call may go out then is decided where the hold is asked for

    async def _aopen(self, granted: Granted, scope: str, command: Reserve) -> Granted:
        """Return what was granted; what a key was granted before must be open still."""
        if granted.hold_id == command.hold_id:
            return granted
        try:
            with only_if_open(granted, command):
                await self._engine.aapply(scope, Extend(granted.hold_id, command.ttl_s))
        except StoreError as error:
            return self._engine.without_hold(command, error)
        return granted._replace(expires_at=self._engine.now() + command.ttl_s)

    async def _aasked(self, scope: str, command: Reserve, wait_s: float) -> Reply:
        """Ask for a hold, wait for it where that was wished, or go without it where that may be."""
        engine = self._engine
        ask = partial(ask_for, engine.aapply, scope)
        if not engine.store.durable and engine.store.in_process:
            # It answers at once: nobody can be cancelled meanwhile.
            ask = partial(engine.aapply, scope)
        try:
            if wait_s <= 0:
                return await ask(command)
            priority = engine.priority_of(command.agent)
            return await await_for(engine.lines, scope, priority, command, wait_s, ask)
        except StoreError as error:
            return engine.without_hold(command, error)

    def _outer_command(
        self, command: Reserve, outer: BudgetManager, agent: str, hold_id: str
    ) -> Reserve:
        """Return the hold on an outer manager's agent that goes with a hold of that id."""
        return command._replace(
            agent=agent,
            hold_id=new_id(),
            key=None if command.key is None else f"around {hold_id}",
            ttl_s=outer._hold_ttl_s if command.ttl_s == self._hold_ttl_s else command.ttl_s,
            leave=0,
            track=False,
            enforcement=outer.settings.enforcement,
        )

    def _watch(self, hold: Hold, ttl_s: float) -> None:
        """Put off the limit of a hold that has the usual one, for as long as its owner lives."""
        if self._engine.store.durable and ttl_s == TTL_S and not hold.unheld:
            self._engine.heartbeat.watch(hold)
