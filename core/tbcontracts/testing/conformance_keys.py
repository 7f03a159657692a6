"""Checks that a store does what has a key, or ends a hold, exactly once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tbcontracts.books import AccountView
from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Granted,
    Open,
    Posted,
    Reserve,
    Settle,
    TopUp,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import HoldResolvedError, IdempotencyConflictError
from tbcontracts.stores.base import Applied, Store
from tbcontracts.testing.checking import (
    ConformanceError,
    MakeStore,
    ManualClock,
    expect,
    leave_loop,
    opened,
    quick_turns,
    read_books,
)
from tbcontracts.testing.strategies import outcome


def check_keys(make_store: MakeStore, *, own_clock: bool = False, callers: int = 16) -> None:
    """Check that a command with a key, or the end of a hold, takes effect once.

    Raises:
        ConformanceError: It does so twice, not at all, or answers otherwise the second time.
    """
    with opened(make_store) as (store, clock):
        store.apply("s", Open((BudgetContract("a", max_tokens=100, min_reserve=0),)))
        hold = Reserve("a", 60, "h1", key="hold")
        granted = _all_at_once(callers, lambda n: store.apply("s", hold._replace(hold_id=f"h{n}")))
        reply = granted[0]
        expect(granted, [reply] * callers, "the replies to one key")
        if not isinstance(reply, Granted):
            msg = f"A hold that fits was not granted: {reply!r}."
            raise ConformanceError(msg)
        expect(store.resolve("s", "hold"), reply, "what the key resolves to")
        expect(asyncio.run(_resolve(store, "hold")), reply, "what the key resolves to, awaited")
        expect(store.resolve("s", "never"), None, "a key that was not used")
        expect(_account(store).held, 60, "the tokens held under one key")
        for other in (hold._replace(amount=61), Charge("a", 60, key="hold")):
            expect(_answer(store, other), IdempotencyConflictError, "a key used for something else")

        denied = _answer(store, Reserve("a", 70, "late", key="no"))
        expect(isinstance(denied, Denied), True, "a hold that does not fit is denied")
        store.apply("s", TopUp("a", 50, key="more"))
        store.apply("s", TopUp("a", 50, key="more"))
        expect(_account(store).allocated, 150, "the allocation after one top-up, sent twice")
        again = _answer(store, Reserve("a", 70, "late again", key="no"))
        expect(again, denied, "a denied key after there is budget")

        charges = _all_at_once(callers, lambda _: store.apply("s", Charge("a", 5, key="c")))
        expect(charges, [charges[0]] * callers, "the replies to one charge")
        expect(_account(store).consumed, 5, "what was charged")

        ends = _all_at_once(callers, lambda n: store.apply("s", Settle(reply.hold_id, "a", n)))
        posted = [end for end in ends if isinstance(end, Posted)]
        expect(len(posted), 1, "the number of settlements of one hold")
        expect(ends.count(HoldResolvedError), callers - 1, "the number of refused settlements")
        expect(_account(store).consumed, 5 + posted[0].amount, "what was settled")
        same = Settle(reply.hold_id, "a", posted[0].amount)
        expect(_answer(store, same), posted[0], "the same settlement again")
        expect(_account(store).held, 0, "what is held after the hold was settled")
        if not own_clock:
            _check_forgetting(store, clock)


def _check_forgetting(store: Store, clock: ManualClock) -> None:
    """Check how long keys are kept: refusals for 10 minutes, all others for a day."""
    clock.advance(601)
    expect(store.resolve("s", "no"), None, "a refusal after 10 minutes")
    granted = _answer(store, Reserve("a", 70, "at last", key="no", ttl_s=50_000.0))
    expect(isinstance(granted, Granted), True, "a denied key is asked again after 10 minutes")
    clock.advance(85_000)
    consumed = _account(store).consumed
    store.apply("s", Charge("a", 5, key="c"))
    expect(_account(store).consumed, consumed, "what is charged by the same key within a day")
    clock.advance(10_000)
    expect(store.resolve("s", "c"), None, "a charge after a day")
    expect(store.resolve("s", "no"), granted, "a hold's key, for twice its limit")


async def _resolve(store: Store, key: str) -> object:
    """Return what a key resolves to, awaited."""
    reply = await store.aresolve("s", key)
    await leave_loop(store)
    return reply


def _answer(store: Store, command: Command) -> object:
    """Return a reply, or the kind of an error."""
    return outcome(lambda: store.apply("s", command).reply)


def _all_at_once(callers: int, apply: Callable[[int], Applied]) -> list[object]:
    """Return what this many threads are answered that ask at the same time."""
    start = threading.Barrier(callers)

    def call(number: int) -> object:
        start.wait()
        return outcome(lambda: apply(number).reply)

    with quick_turns(), ThreadPoolExecutor(callers) as pool:
        return list(pool.map(call, range(callers)))


def _account(store: Store) -> AccountView:
    return read_books(store, "s").accounts[0]
