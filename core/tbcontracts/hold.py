"""Holds as users have them: budget set aside for one call, ended exactly once."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from tbcontracts.books import Resolution
from tbcontracts.checks import check_seconds
from tbcontracts.commands import Command, Extend, Granted, Posted, Reply, Reserve, Settle, Void
from tbcontracts.endings import Ending, how_it_ended
from tbcontracts.errors import HoldResolvedError
from tbcontracts.money import figure
from tbcontracts.rules.common import resolved_otherwise
from tbcontracts.usage import Usage

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import Self

    from tbcontracts.events import Move
    from tbcontracts.manager import BudgetManager


_log = logging.getLogger("tbcontracts")


@contextmanager
def only_if_open(granted: Granted, command: Reserve) -> Iterator[None]:
    """Say what it means that a hold which its key was granted before cannot be extended.

    Raises:
        HoldResolvedError: It has ended.
    """
    try:
        yield
    except HoldResolvedError as error:
        msg = (
            f"The key {command.key!r} was used before, for a hold of agent {granted.agent!r} that "
            f"has ended or passed its limit since ({granted.hold_id!r}); no call may go out on it."
        )
        raise HoldResolvedError(msg, remedy="What helps: a new key for a new call.") from error


_VOIDED = Resolution("voided")


class AnyHold(ABC):
    """What a hold knows, whichever way it is ended."""

    def __init__(self, scope: str, tokens: int, granted: Granted) -> None:
        self._granted = granted
        self.scope = scope
        self.tokens = tokens
        """The size that was asked for, in the unit of the books."""

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
    def unheld(self) -> bool:
        """Whether the call goes out without a hold, because the store did not answer."""
        return self._granted.seq == 0

    @property
    @abstractmethod
    def resolved(self) -> bool:
        """Whether it was ended in this process."""

    def __repr__(self) -> str:
        """Show whose it is and how large."""
        state = "resolved" if self.resolved else "open"
        return f"<{type(self).__name__} {self.agent_name!r} {self._size_said} {state}>"

    @property
    def _size_said(self) -> str:
        """Its size, for people."""
        return f"{self.tokens:,}"

    def _leaving(self, error: BaseException | None) -> Usage | None:
        """Return what to settle when a `with` block ends without a word; None is to void."""
        ending = Ending(error=error)
        if self._in_usd:
            return how_it_ended(ending, hold_tokens=0, input_tokens=None, hold_cost=self.tokens)
        return how_it_ended(ending, hold_tokens=self.tokens, input_tokens=None)

    @property
    @abstractmethod
    def _in_usd(self) -> bool:
        """Whether its books are in dollars."""


class Hold(AnyHold):
    """Budget set aside for one call.

    End it once, with `settle` or `void`. As a context manager it ends itself: a block that is left
    without either charges the whole hold, unmeasured, because a call that may have been sent may be
    billed; only an exception that proves the opposite (an HTTP error status) gives it back.

    Every method has an awaited twin with `a` in front.
    """

    def __init__(
        self,
        manager: BudgetManager,
        scope: str,
        tokens: int,
        granted: Granted,
        note: str = "",
    ) -> None:
        super().__init__(scope, tokens, granted)
        self._manager = manager
        self._note = note
        self._resolved = False
        self._ending: tuple[Resolution, Reply] | None = None  # for good, and the reply to it
        self._outer: Hold | None = None
        self._more: list[Hold] = []  # what it grew by, ended with it
        self._for_tokens = tokens  # how many tokens it is for, where it is in dollars

    @property
    def resolved(self) -> bool:
        """Whether it was ended through this object."""
        return self._resolved

    @property
    def _in_usd(self) -> bool:
        return self._manager.settings.unit == "usd"

    @property
    def _size_said(self) -> str:
        return figure(self.tokens, self._manager.settings.unit)

    @property
    def _amount_in_all(self) -> int:
        """Its size with what it grew by, in the unit of the books."""
        return self.tokens + sum(more.tokens for more in self._more)

    @property
    def _tokens_in_all(self) -> int:
        """How many tokens it is for, with what it grew by."""
        return self._for_tokens + sum(more._for_tokens for more in self._more)

    def _is_for(self, tokens: int) -> Self:
        """Note how many tokens it is for."""
        self._for_tokens = tokens
        return self

    def settle(self, usage: Usage | int | Decimal, *, final: bool = True) -> Posted:
        """Replace the hold by what was used; posted in full, even beyond the budget.

        Args:
            usage: A `Usage`, or an amount: a number of tokens, or a `Decimal` of dollars. In
                dollars a usage without a known price is charged the whole hold.
            final: False posts an estimate that a later `settle` or `void` replaces by the truth.

        Returns:
            What was posted, and the overdraft that is left. The same settlement again returns the
            first reply. Where the store does not answer, it is kept and posted later
            (`manager.unposted`), and the reply's `seq` is 0.

        Raises:
            TBCError: The hold was ended before, differently.
        """
        resolution, (*parts, own) = self._settlement(usage, final)
        reply = self._first_reply(resolution)
        if reply is None:
            for hold, command in parts:
                self._manager.apply_to(hold.scope, command)
            reply = self._manager.apply_to(self.scope, own[1])
            self._ended(resolution, reply, final=final)
        assert isinstance(reply, Posted)
        if self._outer is not None:
            self._outer.settle(usage, final=final)
        return reply

    async def asettle(self, usage: Usage | int | Decimal, *, final: bool = True) -> Posted:
        """Replace the hold by what was used; see `settle`."""
        resolution, (*parts, own) = self._settlement(usage, final)
        reply = self._first_reply(resolution)
        if reply is None:
            for hold, command in parts:
                await self._manager.aapply_to(hold.scope, command)
            reply = await self._manager.aapply_to(self.scope, own[1])
            self._ended(resolution, reply, final=final)
        assert isinstance(reply, Posted)
        if self._outer is not None:
            await self._outer.asettle(usage, final=final)
        return reply

    def void(self) -> None:
        """Give the hold back: nothing was billed.

        Raises:
            TBCError: The hold was settled before.
        """
        if self._first_reply(_VOIDED) is None:
            for more in self._more:
                self._manager.apply_to(more.scope, more._void_command())
            reply = self._manager.apply_to(self.scope, self._void_command())
            self._ended(_VOIDED, reply)
        if self._outer is not None:
            self._outer.void()

    async def avoid(self) -> None:
        """Give the hold back; see `void`."""
        if self._first_reply(_VOIDED) is None:
            for more in self._more:
                await self._manager.aapply_to(more.scope, more._void_command())
            reply = await self._manager.aapply_to(self.scope, self._void_command())
            self._ended(_VOIDED, reply)
        if self._outer is not None:
            await self._outer.avoid()

    def extend(self, ttl_s: float) -> None:
        """Let the hold live for `ttl_s` seconds from now.

        Raises:
            TBCError: It is ended or its limit has passed.
        """
        for hold in (*self._more, self):
            command = hold._extend_command(ttl_s)
            if not hold.unheld:
                self._manager.apply_to(hold.scope, command)
        if self._outer is not None:
            self._outer.extend(ttl_s)

    async def aextend(self, ttl_s: float) -> None:
        """Let the hold live for `ttl_s` seconds from now; see `extend`."""
        for hold in (*self._more, self):
            command = hold._extend_command(ttl_s)
            if not hold.unheld:
                await self._manager.aapply_to(hold.scope, command)
        if self._outer is not None:
            await self._outer.aextend(ttl_s)

    def _go_with(self, outer: Hold | None) -> Self:
        """Go with a hold on the outer manager's agent from now on: both end as one."""
        self._outer = outer
        return self

    def _take_in(self, more: Hold) -> None:
        """Grow by another hold of the same agent: from now on both end as one."""
        self._more.append(more)
        if self._outer is not None and more._outer is not None:
            self._outer._take_in(more._outer)
        more._outer = None

    def _first_reply(self, resolution: Resolution) -> Reply | None:
        """Return the reply to the ending of this hold, or None if it has not ended for good.

        The hold itself knows: the books forget, and would take a second ending for a late one.

        Raises:
            HoldResolvedError: It was ended in another way.
        """
        if self._ending is None:
            return None
        done, reply = self._ending
        if done != resolution:
            raise resolved_otherwise(self.hold_id, self.agent_name, done, resolution)
        return reply

    def _ended(self, resolution: Resolution, reply: Reply, *, final: bool = True) -> None:
        for hold in (*self._more, self):
            hold._resolved = True
        if final:
            self._ending = resolution, reply

    def _settlement(
        self, usage: Usage | int | Decimal, final: bool
    ) -> tuple[Resolution, list[tuple[Hold, Command]]]:
        """Return how the hold ends: the settlements of what it grew by, and its own at last.

        Each takes at most its own size, and the last one the rest, so that nothing comes free in
        between. The buckets stand on the last one.
        """
        what = f"The usage of agent {self.agent_name!r}"
        amount, buckets = self._manager.weighed(usage, what, unpriced=self._amount_in_all)
        resolution = Resolution("settled", amount)
        track = self._manager.contract_of(self.agent_name) is None
        # The cost stands on the last one, too; where it is not known, that is said there.
        measured = buckets is None or buckets.measured
        nothing = Usage(measured=measured, cost_micro_usd=0)
        commands: list[tuple[Hold, Command]] = []
        for more in self._more:
            part = min(more.tokens, max(0, amount - self.tokens))
            amount -= part
            rest = (self.agent_name, part, nothing, self._note, final, track)
            commands.append((more, Settle(more.hold_id, *rest)))
        settle = Settle(self.hold_id, self.agent_name, amount, buckets, self._note, final, track)
        return resolution, [*commands, (self, settle)]

    def _void_command(self) -> Void:
        return Void(self.hold_id, self._note)

    def _extend_command(self, ttl_s: float) -> Extend:
        what = f"ttl_s of the hold of agent {self.agent_name!r}"
        return Extend(self.hold_id, check_seconds(ttl_s, what))

    def __enter__(self) -> Self:
        """Return the hold."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a hold that the block left open; an error of the block stays the one that is seen."""
        if self._resolved:
            return
        with behind(error):
            usage = self._leaving(error)
            if usage is None:
                self.void()
            else:
                self.settle(usage)


@contextmanager
def behind(error: BaseException | None) -> Iterator[None]:
    """Let trouble with the end of a hold stand behind the error that ended its block."""
    try:
        yield
    except Exception:
        if error is None:
            raise
        _log.exception("The hold of a block that failed could not be ended.")
