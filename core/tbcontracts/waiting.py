"""Waiting for budget, in the order of priority.

A hold that does not fit may wait until others settle, void, finish or are topped up. Whenever
something came free, the waiting agents ask again one after another: the most important first, among
equals the one that came first. Whoever is refused lets the next one ask, so a large demand does not
keep the small ones behind it waiting for nothing.

Budget can also come free where nobody here sees it: a hold passes its limit, or another process
settles. So the line asks again on its own, too, at most once in `POLL_S`.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from bisect import insort
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tbcontracts.commands import Denied, Reply, Reserve
from tbcontracts.errors import ConfigurationError

if TYPE_CHECKING:
    from tbcontracts.events import JournalEntry

POLL_S = 0.25
_FREEING = frozenset(
    ("settled", "voided", "expired", "topped_up", "finished", "transferred", "contract_changed")
)
_MAY_FIT_LATER = frozenset(("budget_exceeded", "fragmented", "reserve_kept"))


class Waiter:
    """One hold that waits."""

    def __init__(self, priority: int, number: int, wake: Callable[[], object]) -> None:
        self.place = (-priority, number)
        self.wake = wake
        self.asked_at = -1
        """The state of the line when it asked last."""

    def __lt__(self, other: Waiter) -> bool:
        """Compare by who asks first."""
        return self.place < other.place


class Line:
    """Those who wait for budget of one scope."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._waiters: list[Waiter] = []
        self._state = 0  # counts how often something came free
        self._moved_at = time.monotonic()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiters)

    def enter(self, waiter: Waiter) -> None:
        """Join the line."""
        with self._lock:
            insort(self._waiters, waiter)
        self._wake_next()

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, with budget or without."""
        with self._lock:
            self._waiters.remove(waiter)
        self._wake_next()

    def something_came_free(self) -> None:
        """Let everybody ask again, in turn."""
        with self._lock:
            self._state += 1
            self._moved_at = time.monotonic()
        self._wake_next()

    def poll(self) -> None:
        """Let everybody ask again if nothing was heard for a while."""
        with self._lock:
            due = time.monotonic() - self._moved_at >= POLL_S
        if due:
            self.something_came_free()

    def turn_of(self, waiter: Waiter) -> int | None:
        """Return the state to ask in if it is this one's turn, or None."""
        with self._lock:
            return self._state if self._next() is waiter else None

    def refused(self, waiter: Waiter, state: int) -> None:
        """Note that one asked in vain; the next may ask."""
        with self._lock:
            waiter.asked_at = state
        self._wake_next()

    def _next(self) -> Waiter | None:
        """Return the first who has not asked since something came free."""
        return next((one for one in self._waiters if one.asked_at < self._state), None)

    def _wake_next(self) -> None:
        with self._lock:
            waiter = self._next()
        if waiter is not None:
            waiter.wake()


class Lines:
    """The lines of all scopes; a scope without one costs nothing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._lines: dict[str, Line] = {}
        self._numbers = itertools.count()

    def heard(self, scope: str, entries: Iterable[JournalEntry]) -> None:
        """Hear what happened in a scope; cheap where nobody waits."""
        line = self._lines.get(scope) if self._lines else None
        if line is not None and any(entry.kind in _FREEING for entry in entries):
            line.something_came_free()

    @contextmanager
    def waiting(
        self, scope: str, priority: int, wake: Callable[[], object]
    ) -> Iterator[tuple[Line, Waiter]]:
        """Stand in a scope's line inside a `with` block."""
        waiter = Waiter(priority, next(self._numbers), wake)
        with self._lock:
            line = self._lines.setdefault(scope, Line())
            line.enter(waiter)
        try:
            yield line, waiter
        finally:
            with self._lock:
                line.leave(waiter)
                if not len(line):
                    self._lines.pop(scope, None)


def is_worth_waiting(reply: Reply) -> bool:
    """Return whether a refused hold may fit once budget came free."""
    return isinstance(reply, Denied) and reply.code in _MAY_FIT_LATER


def refuse_in_event_loop() -> None:
    """Refuse to block a thread whose event loop would stand still, budget and all.

    Raises:
        ConfigurationError: An event loop runs in this thread.
    """
    asyncio = sys.modules.get("asyncio")  # where nobody imported it, no loop runs
    if asyncio is None:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = "reserve(wait_s=...) would block the event loop that runs in this thread."
    raise ConfigurationError(msg, remedy="What helps: await manager.areserve(..., wait_s=...).")


def wait_for(
    lines: Lines,
    scope: str,
    priority: int,
    command: Reserve,
    wait_s: float,
    ask: Callable[[Reserve], Reply],
) -> Reply:
    """Ask for a hold until it is granted, cannot fit any more, or time is up.

    Only the last refusal is put on the books; the ones on the way leave no trace.

    Raises:
        ConfigurationError: An event loop runs in this thread, and would stand still.
    """
    refuse_in_event_loop()
    deadline = time.monotonic() + wait_s
    woken = threading.Event()
    reply: Reply | None = None
    with lines.waiting(scope, priority, woken.set) as (line, waiter):
        while True:
            state = line.turn_of(waiter)
            if state is not None:
                reply = ask(command._replace(trial=True))
                if not is_worth_waiting(reply):
                    break
                line.refused(waiter, state)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            woken.wait(min(left, POLL_S))
            woken.clear()
            line.poll()
    return ask(command) if reply is None or isinstance(reply, Denied) else reply


async def await_for(
    lines: Lines,
    scope: str,
    priority: int,
    command: Reserve,
    wait_s: float,
    ask: Callable[[Reserve], Awaitable[Reply]],
) -> Reply:
    """Do the same without blocking the event loop; cancelled, it leaves the line."""
    import asyncio

    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + wait_s
    woken = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it this wait
            loop.call_soon_threadsafe(woken.set)

    reply: Reply | None = None
    with lines.waiting(scope, priority, wake) as (line, waiter):
        while True:
            state = line.turn_of(waiter)
            if state is not None:
                reply = await ask(command._replace(trial=True))
                if not is_worth_waiting(reply):
                    break
                line.refused(waiter, state)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # Not `asyncio.wait_for`: before Python 3.12 it may swallow a cancellation.
            alarm = loop.call_later(min(left, POLL_S), woken.set)
            try:
                await woken.wait()
            finally:
                alarm.cancel()
            woken.clear()
            line.poll()
    return await ask(command) if reply is None or isinstance(reply, Denied) else reply
