"""The awaited door: every method of the manager that touches the store, with `a` in front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbcontracts import commands
from tbcontracts.calls import Call
from tbcontracts.checks import check_timeout, check_wait
from tbcontracts.commands import Command, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.hold import Hold
from tbcontracts.hold_async import AsyncHold
from tbcontracts.placing import Placing
from tbcontracts.sizing import BEYOND, OUTGROWN, CallShape, Unbounded
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from decimal import Decimal


class AsyncMethods(Placing):
    """The awaited twins of the manager's methods; each says what it does there."""

    async def areserve(
        self,
        name: str,
        tokens: int | Decimal,
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
        tokens_or_usage: int | Decimal | Usage,
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
            await self._engine.apost(self.scope_name, scored)
        return self._all_covered(posted)

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
            assert isinstance(command, commands.Refuse)
            reply = await self._engine.arefuse(self.scope_name, command)
            if not command.observed:
                if inner is not None:
                    inner.was_refused()
                raise self._refusal(reply, size)
            command, size = self._let_through(command, shape)
        if inner is not None:
            beyond, more = self._beyond(inner, command), None
            tokens = max(0, size.tokens - inner.hold._tokens_in_all)
            try:
                if beyond:
                    more = await self.ahold_more(inner.hold, beyond, BEYOND, tokens=tokens)
            except BaseException:
                inner.was_refused()
                raise
            return inner.with_more(more)
        assert isinstance(command, commands.Reserve)
        around = self._call_around()
        hold = (await self._ahold(command, note))._is_for(size.tokens)
        return Call(self._as_manager(), hold, shape, size, around=around)

    async def ahold_more(
        self, hold: Hold, amount: int, sizing: str = OUTGROWN, *, tokens: int | None = None
    ) -> Hold:
        """Hold more without blocking the event loop; see `hold_more`."""
        more = await self.scope(hold.scope)._ahold(self._more_command(hold, amount, sizing))
        return more._is_for(amount if tokens is None else tokens)

    async def acharge_beside(self, hold: Hold, usage: Usage) -> None:
        """Charge what was used beside a call without blocking the loop; see `charge_beside`."""
        await self.scope(hold.scope)._apost(self._beside_command(hold, usage))

    async def atop_up(
        self, name: str | None, tokens: int | Decimal, *, key: str | None = None
    ) -> None:
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

    async def aflush(self, timeout_s: float | None = None) -> bool:
        """Post what was used while the store did not answer; see `BudgetManager.flush`."""
        import asyncio

        timeout_s = check_timeout(timeout_s)
        return await asyncio.to_thread(self._engine.backlog.flush, timeout_s)

    async def aapply_to(self, scope: str, command: Command) -> Reply:
        """Carry out a command in a given scope; for holds, which stay with theirs."""
        if isinstance(command, (commands.Settle, commands.Void)):
            return await self._engine.apost(scope, command)
        return await self._engine.aapply(scope, command)

    async def _apost(self, command: commands.Charge) -> list[Posted]:
        """Post a charge, without raising for an overdraft; return what each of the books says."""
        outer = []
        if self._outer is not None:
            parent, agent = self._outer
            outer = await parent._apost(self._outer_charge(command, agent))
        reply = await self._engine.apost(self.scope_name, command)
        assert isinstance(reply, Posted)
        return [reply, *outer]

    async def _ado(self, command: Command) -> int:
        """Carry out a command whose reply is a number."""
        reply = await self._engine.aapply(self.scope_name, command)
        assert isinstance(reply, commands.Done)
        return reply.amount
