"""The awaited door: every method of the manager that touches the store, with `a` in front."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from tbcontracts import commands
from tbcontracts.abandoned import ask_for, to_its_end
from tbcontracts.calls import Call
from tbcontracts.checks import check_name, check_wait
from tbcontracts.commands import Command, Granted, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.hold import AsyncHold, Hold, only_if_open
from tbcontracts.reading import Reading
from tbcontracts.sizing import BEYOND, OUTGROWN, CallShape, Unbounded
from tbcontracts.usage import Usage
from tbcontracts.waiting import await_for


class AsyncMethods(Reading):
    """The awaited twins of the manager's methods; each says what it does there."""

    async def areserve(
        self,
        name: str,
        tokens: int,
        *,
        key: str | None = None,
        ttl_s: float | None = None,
        wait_s: float = 0,
    ) -> AsyncHold:
        """Set budget aside before a call; see `BudgetManager.reserve`."""
        command = self._reserve_command(name, tokens, key, ttl_s)
        return AsyncHold(await self._ahold(command, wait_s=check_wait(wait_s)))

    async def arecord_usage(
        self,
        name: str,
        tokens_or_usage: int | Usage,
        note: str = "usage",
        confidence: float | None = None,
        *,
        key: str | None = None,
    ) -> Posted:
        """Charge usage that had no hold; see `BudgetManager.record_usage`."""
        command = self._charge_command(name, tokens_or_usage, note, key)
        scored = None if confidence is None else self._confidence_command(name, confidence)
        posted = await self._apost(command)
        if scored is not None:
            await self._ado(scored)
        return self._uncovered(posted)

    async def abegin_call(
        self, agent: str | None, shape: CallShape, *, note: str = "", apart: bool = False
    ) -> Call:
        """Hold budget for an LLM call without blocking the event loop; see `begin_call`.

        Raises:
            BudgetExceededError: The call cannot be paid for and must not be sent.
        """
        command, size = self._call_command(agent, shape)
        inner = self._inner_call(command.agent, shape, apart=apart)
        if isinstance(size, Unbounded):
            if inner is not None:
                inner.was_refused()
            raise self._refusal(await self._engine.aapply(self.scope_name, command), size)
        if inner is not None:
            beyond = self._beyond(inner, command)
            try:
                more = await self.ahold_more(inner.hold, beyond, BEYOND) if beyond else None
            except BaseException:
                inner.was_refused()
                raise
            return inner.with_more(more)
        assert isinstance(command, commands.Reserve)
        around = self._call_around()
        hold = await self._ahold(command, note)
        return Call(self._as_manager(), hold, shape, size, around=around)

    async def ahold_more(self, hold: Hold, tokens: int, sizing: str = OUTGROWN) -> Hold:
        """Hold more without blocking the event loop; see `hold_more`."""
        return await self.scope(hold.scope)._ahold(self._more_command(hold, tokens, sizing))

    async def acharge_beside(self, hold: Hold, usage: Usage) -> None:
        """Charge what was used beside a call without blocking the loop; see `charge_beside`."""
        await self.scope(hold.scope)._apost(self._beside_command(hold, usage))

    async def atop_up(self, name: str | None, tokens: int, *, key: str | None = None) -> None:
        """Add new budget to an agent, or to the pool if `name` is None."""
        await self._ado(self._top_up_command(name, tokens, key))

    async def afinish(self, name: str) -> int:
        """Say that an agent is done; see `BudgetManager.finish`."""
        return await self._ado(commands.Finish(self._known(name)))

    async def achange_contract(self, name: str, **fields: Any) -> BudgetContract:
        """Change an agent's contract; see `BudgetManager.change_contract`."""
        return await self._engine.achange(self.scope_name, self._known(name), fields)

    async def areport_confidence(self, name: str, score: float) -> None:
        """Say how good an agent's last answer was; see `BudgetManager.report_confidence`."""
        await self._ado(self._confidence_command(name, score))

    async def areset_confidence(self, name: str) -> None:
        """Forget an agent's score, before it begins something new."""
        await self._ado(self._confidence_command(name, None))

    async def aclose_scope(self, path: str | None = None) -> None:
        """Close a scope; see `BudgetManager.close_scope`."""
        view = self if path is None else self.scope(path)
        await view._ado(commands.Close())

    async def aresolve(self, key: str) -> Reply | None:
        """Return what came of the command with this key, or None if it never took effect."""
        return await self._engine.store.aresolve(self.scope_name, check_name(key, "key"))

    async def aapply_to(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a given scope; for holds, which stay with theirs."""
        return await self._engine.aapply(scope, command)

    async def _ahold(self, command: commands.Reserve, note: str = "", wait_s: float = 0) -> Hold:
        """Place a hold, on the outer manager's books first."""
        outer = None
        if self._outer is not None:
            parent, agent = self._outer
            began = time.monotonic()
            outer = await parent._ahold(self._outer_command(command, parent, agent), note, wait_s)
            wait_s -= time.monotonic() - began
        scope = self.scope_name
        try:
            reply = await self._aasked(scope, command, wait_s)
            granted = await self._aopen(self.granted(reply, scope, command.sizing), scope, command)
        except BaseException:
            if outer is not None:
                await to_its_end(outer.avoid())
            raise
        hold = Hold(self._as_manager(), scope, command.amount, granted, note, outer)
        self._watch(hold, command.ttl_s)
        return hold

    async def _aopen(self, granted: Granted, scope: str, command: commands.Reserve) -> Granted:
        """Return what was granted; what a key was granted before must be open still."""
        if granted.hold_id == command.hold_id:
            return granted
        with only_if_open(granted, command):
            await self._engine.aapply(scope, commands.Extend(granted.hold_id, command.ttl_s))
        return granted._replace(expires_at=self._engine.store.now() + command.ttl_s)

    async def _aasked(self, scope: str, command: commands.Reserve, wait_s: float) -> Reply:
        """Ask for a hold, and wait for it where that was wished."""
        engine = self._engine
        ask = partial(ask_for, engine.aapply, scope)
        if not engine.store.durable and engine.store.in_process:
            ask = partial(
                engine.aapply, scope
            )  # answers at once: nobody can be cancelled meanwhile
        if wait_s <= 0:
            return await ask(command)
        priority = engine.priority_of(command.agent)
        return await await_for(engine.lines, scope, priority, command, wait_s, ask)

    async def _apost(self, command: commands.Charge) -> Posted:
        """Post a charge, without raising for the overdraft that it may leave."""
        if self._outer is not None:
            parent, agent = self._outer
            await parent._apost(command._replace(agent=agent))
        reply = await self._engine.aapply(self.scope_name, command)
        assert isinstance(reply, Posted)
        return reply

    async def _ado(self, command: Command) -> int:
        """Carry out a command whose reply is a number."""
        reply = await self._engine.aapply(self.scope_name, command)
        assert isinstance(reply, commands.Done)
        return reply.amount
