"""Commands whose task is cancelled while the store has not answered.

A cancelled task goes away at once, but what it asked for may still take effect. So the command runs
on a task of its own: a hold that is granted to somebody who has gone is given back, and a
settlement is carried through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from tbcontracts.commands import Command, Granted, Reply, Reserve, Void

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

_running: set[asyncio.Task[Any]] = set()  # an event loop itself keeps its tasks only weakly


async def to_its_end(
    work: Coroutine[Any, Any, T], otherwise: Callable[[], object] | None = None
) -> T:
    """Await something that goes on to its end even if whoever awaits it is cancelled.

    Args:
        work: What is to be done.
        otherwise: What is done at once if the event loop closes before.
    """
    import asyncio

    return await asyncio.shield(in_background(work, otherwise))


def in_background(
    work: Coroutine[Any, Any, T], otherwise: Callable[[], object] | None = None
) -> asyncio.Task[T]:
    """Begin something in the running event loop, and keep it until it is done; see `to_its_end`."""
    import asyncio

    def done(task: asyncio.Task[T]) -> None:
        _running.discard(task)
        if task.cancelled() and otherwise is not None:
            otherwise()  # only a closing event loop cancels it, perhaps before its first step

    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(done)
    return task


async def ask_for(
    apply: Callable[[str, Command], Awaitable[Reply]], scope: str, command: Reserve
) -> Reply:
    """Ask for a hold; one that is granted after the asking task was cancelled is given back.

    Args:
        apply: Carries out a command on the books of a scope.
        scope: The books.
        command: The hold. It goes out with a key, so that asking again finds the first reply.
    """
    import asyncio

    if command.key is None:
        command = command._replace(key=command.hold_id)
    gone = False

    async def ask() -> Reply:
        try:
            reply = await apply(scope, command)
        except asyncio.CancelledError:
            # The event loop is closing, and the answer is lost: the same key brings it back.
            await _give_back(apply, scope, await apply(scope, command))
            raise
        if gone:
            await _give_back(apply, scope, reply)
        return reply

    asked = in_background(ask())
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        gone = True
        if asked.done() and not asked.cancelled() and asked.exception() is None:
            in_background(_give_back(apply, scope, asked.result()))
        raise


async def _give_back(
    apply: Callable[[str, Command], Awaitable[Reply]], scope: str, reply: Reply
) -> None:
    """Void a hold that nobody waits for any more."""
    if isinstance(reply, Granted):
        await apply(scope, Void(reply.hold_id))
