"""Holds as users have them: budget set aside for one call, ended exactly once."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from tbcontracts.checks import check_seconds
from tbcontracts.commands import Extend, Granted, Posted, Settle, Void
from tbcontracts.endings import Ending, how_it_ended
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from typing_extensions import Self

    from tbcontracts.door import Door
    from tbcontracts.events import Move
    from tbcontracts.manager import BudgetManager
    from tbcontracts.manager_async import AsyncMethods


class _HoldBase:
    """What a hold knows, whichever way it is ended."""

    def __init__(self, manager: Door, scope: str, tokens: int, granted: Granted, note: str) -> None:
        self._manager = manager
        self._granted = granted
        self._note = note
        self._resolved = False
        self.scope = scope
        self.tokens = tokens
        """The size that was asked for."""

    @property
    def hold_id(self) -> str:
        """The name of this hold on the books."""
        return self._granted.hold_id

    @property
    def agent_name(self) -> str:
        """Whose budget it is."""
        return self._granted.agent

    @property
    def moves(self) -> tuple[Move, ...]:
        """What pool and donors gave for it."""
        return self._granted.moves

    @property
    def expires_at(self) -> float:
        """When it stops blocking budget, in seconds since the epoch by the store's clock."""
        return self._granted.expires_at

    @property
    def would_deny(self) -> bool:
        """Whether only observe mode let it through."""
        return self._granted.would_deny is not None

    @property
    def resolved(self) -> bool:
        """Whether it was ended through this object."""
        return self._resolved

    def __repr__(self) -> str:
        """Show whose it is and how large."""
        state = "resolved" if self._resolved else "open"
        return f"<{type(self).__name__} {self.agent_name!r} {self.tokens:,} {state}>"

    def _settle_command(self, usage: Usage | int, final: bool) -> Settle:
        amount, buckets = self._manager.weighed(usage, f"The usage of agent {self.agent_name!r}")
        track = self.agent_name not in self._manager.contracts
        return Settle(self.hold_id, self.agent_name, amount, buckets, self._note, final, track)

    def _extend_command(self, ttl_s: float) -> Extend:
        what = f"ttl_s of the hold of agent {self.agent_name!r}"
        return Extend(self.hold_id, check_seconds(ttl_s, what))

    def _leaving(self, error: BaseException | None) -> Usage | None:
        """Return what to settle when a `with` block ends without a word; None is to void."""
        return how_it_ended(Ending(error=error), hold_tokens=self.tokens, input_tokens=None)


class Hold(_HoldBase):
    """Budget set aside for one call.

    End it once, with `settle` or `void`. As a context manager it ends itself: a block that is left
    without either charges the whole hold, unmeasured, because a call that may have been sent may be
    billed; only an exception that proves the opposite (an HTTP error status) gives it back.
    """

    _manager: BudgetManager

    def __init__(
        self,
        manager: BudgetManager,
        scope: str,
        tokens: int,
        granted: Granted,
        note: str = "",
        outer: Hold | None = None,
    ) -> None:
        super().__init__(manager, scope, tokens, granted, note)
        self._outer = outer  # the hold on the outer manager's agent, ended with this one

    def settle(self, usage: Usage | int, *, final: bool = True) -> Posted:
        """Replace the hold by what was used; posted in full, even beyond the budget.

        Args:
            usage: A `Usage`, or a number of tokens.
            final: False posts an estimate that a later `settle` or `void` replaces by the truth.

        Returns:
            What was posted, and the overdraft that is left. The same settlement again returns the
            first reply.

        Raises:
            TBCError: The hold was ended before, differently.
        """
        reply = self._manager.apply_to(self.scope, self._settle_command(usage, final))
        assert isinstance(reply, Posted)
        self._resolved = True
        if self._outer is not None:
            self._outer.settle(usage, final=final)
        return reply

    def void(self) -> None:
        """Give the hold back: nothing was billed.

        Raises:
            TBCError: The hold was settled before.
        """
        self._manager.apply_to(self.scope, Void(self.hold_id, self._note))
        self._resolved = True
        if self._outer is not None:
            self._outer.void()

    def extend(self, ttl_s: float) -> None:
        """Let the hold live for `ttl_s` seconds from now.

        Raises:
            TBCError: It is ended or its limit has passed.
        """
        self._manager.apply_to(self.scope, self._extend_command(ttl_s))
        if self._outer is not None:
            self._outer.extend(ttl_s)

    def __enter__(self) -> Self:
        """Return the hold."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a hold that the block left open."""
        if self._resolved:
            return
        usage = self._leaving(error)
        if usage is None:
            self.void()
        else:
            self.settle(usage)


class AsyncHold(_HoldBase):
    """Budget set aside for one call: a `Hold` whose methods are awaited."""

    _manager: AsyncMethods

    def __init__(
        self,
        manager: AsyncMethods,
        scope: str,
        tokens: int,
        granted: Granted,
        note: str = "",
        outer: AsyncHold | None = None,
    ) -> None:
        super().__init__(manager, scope, tokens, granted, note)
        self._outer = outer  # the hold on the outer manager's agent, ended with this one

    async def settle(self, usage: Usage | int, *, final: bool = True) -> Posted:
        """Replace the hold by what was used; see `Hold.settle`."""
        reply = await self._manager.aapply_to(self.scope, self._settle_command(usage, final))
        assert isinstance(reply, Posted)
        self._resolved = True
        if self._outer is not None:
            await self._outer.settle(usage, final=final)
        return reply

    async def void(self) -> None:
        """Give the hold back; see `Hold.void`."""
        await self._manager.aapply_to(self.scope, Void(self.hold_id, self._note))
        self._resolved = True
        if self._outer is not None:
            await self._outer.void()

    async def extend(self, ttl_s: float) -> None:
        """Let the hold live for `ttl_s` seconds from now; see `Hold.extend`."""
        await self._manager.aapply_to(self.scope, self._extend_command(ttl_s))
        if self._outer is not None:
            await self._outer.extend(ttl_s)

    async def __aenter__(self) -> Self:
        """Return the hold."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a hold that the block left open."""
        if self._resolved:
            return
        usage = self._leaving(error)
        if usage is None:
            await self.void()
        else:
            await self.settle(usage)
