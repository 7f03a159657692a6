"""What the checks of a store share: a clock, a store to check, and how a failure is told."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tbcontracts.books import Statement
from tbcontracts.stores.base import Store

_SWITCH_S = 1e-5  # threads take turns within a command, not after many


class ConformanceError(AssertionError):
    """A store does not do what the rules say."""


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; a negative number sets the clock back."""
        with self._lock:
            self._now += seconds


MakeStore = Callable[[ManualClock], Store]
"""Opens an empty store. Where it can, the store takes its time from the clock."""


def read_books(store: Store, scope: str) -> Statement:
    """Return a scope's books, which must be there."""
    statement = store.read(scope)
    if statement is None:
        msg = f"There are no books of scope {scope!r}."
        raise ConformanceError(msg)
    return statement


def expect(got: object, wanted: object, what: str) -> None:
    """Compare what a store says with what it should say."""
    if got != wanted:
        msg = f"{what}: {got!r}, not {wanted!r}"
        raise ConformanceError(msg)


@contextmanager
def showing(what: str) -> Iterator[None]:
    """Say where it was, if something is wrong."""
    try:
        yield
    except AssertionError as error:
        msg = f"{what}: {error}"
        raise type(error)(msg) from None


@contextmanager
def opened(make_store: MakeStore) -> Iterator[tuple[Store, ManualClock]]:
    """Open a store, and close it in the end."""
    clock = ManualClock()
    store = make_store(clock)
    try:
        yield store, clock
    finally:
        store.close()


async def leave_loop(store: Store) -> None:
    """Let a store close what it has open for this event loop, if it is one that does."""
    close = getattr(store, "aclose", None)
    if close is not None:
        await close()


@contextmanager
def quick_turns() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
