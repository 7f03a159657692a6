"""Holds whose methods are awaited."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tbcontracts.abandoned import to_its_end
from tbcontracts.hold import AnyHold, Hold, behind

if TYPE_CHECKING:
    from decimal import Decimal

    from typing_extensions import Self

    from tbcontracts.commands import Posted
    from tbcontracts.usage import Usage

T = TypeVar("T")


class AsyncHold(AnyHold):
    """Budget set aside for one call: a `Hold` whose methods are awaited."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.scope, hold.tokens, hold._granted)
        self._hold = hold
        self._ending = False  # an end was asked for, and goes on even if its task is cancelled

    @property
    def resolved(self) -> bool:
        """Whether it was ended in this process."""
        return self._hold.resolved

    @property
    def _in_usd(self) -> bool:
        return self._hold._in_usd

    @property
    def _size_said(self) -> str:
        return self._hold._size_said

    async def settle(self, usage: Usage | int | Decimal, *, final: bool = True) -> Posted:
        """Replace the hold by what was used; see `Hold.settle`."""
        return await self._to_its_end(self._hold.asettle(usage, final=final))

    async def void(self) -> None:
        """Give the hold back; see `Hold.void`."""
        await self._to_its_end(self._hold.avoid())

    async def _to_its_end(self, ending: Coroutine[Any, Any, T]) -> T:
        """End the hold, even if the task that awaits it is cancelled meanwhile."""
        self._ending = True
        try:
            return await to_its_end(ending)
        except Exception:
            self._ending = False
            raise

    async def extend(self, ttl_s: float) -> None:
        """Let the hold live for `ttl_s` seconds from now; see `Hold.extend`."""
        await self._hold.aextend(ttl_s)

    async def __aenter__(self) -> Self:
        """Return the hold."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a hold that the block left open; an error of the block stays the one that is seen."""
        if self.resolved or self._ending:
            return
        with behind(error):
            usage = self._leaving(error)
            if usage is None:
                await self.void()
            else:
                await self.settle(usage)
