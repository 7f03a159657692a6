"""Waiting for budget: who is served first, what ends a wait, and what it leaves on the books."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ConfidenceGateError,
)
from tbcontracts.commands import (
    ChangeContract,
    Command,
    Denied,
    Expire,
    Finish,
    Reserve,
    Settle,
    TopUp,
    Transfer,
    Void,
)
from tbcontracts.errors import ConfigurationError
from tbcontracts.stores.base import Applied
from tbcontracts.stores.memory import MemoryStore

LONG_S = 60.0


class Watched(MemoryStore):
    """A memory store that tells when somebody asked in vain and goes on waiting."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked_in_vain = threading.Semaphore(0)

    def apply(self, scope: str, command: Command) -> Applied:
        """Carry out a command."""
        applied = super().apply(scope, command)
        if isinstance(command, Reserve) and command.trial and isinstance(applied.reply, Denied):
            self.asked_in_vain.release()
        return applied

    def wait_for_waiters(self, number: int) -> None:
        """Wait until so many asked in vain."""
        for _ in range(number):
            assert self.asked_in_vain.acquire(timeout=LONG_S)


@pytest.fixture
def store() -> Watched:
    """Return a store that can be watched."""
    return Watched()


@pytest.fixture
def manager(store: Watched) -> BudgetManager:
    """Return a manager whose agents have nothing of their own."""
    manager = BudgetManager(store=store)
    for name, priority in (("low", 1), ("middle", 2), ("high", 3)):
        manager.register_agent(name, priority=priority, max_tokens=0)
    return manager


def kinds(manager: BudgetManager) -> list[str]:
    """Return what happened after the contracts were opened."""
    return [entry.kind for entry in manager.journal() if entry.kind != "opened"]


def start(function: Callable[[], object]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_a_hold_waits_for_what_others_give_back(manager: BudgetManager, store: Watched) -> None:
    """A void lets the waiting hold in; on the books it is as if it had come later."""
    manager.top_up(None, 100)
    held = manager.reserve("high", 100)
    thread = start(lambda: manager.reserve("low", 60, wait_s=LONG_S).settle(50))
    store.wait_for_waiters(1)
    # What voids is the high agent's allocation; only its finish gives that to others.
    held.void()
    manager.finish("high")
    thread.join()
    assert manager.accounts()["low"].consumed == 50
    assert manager.accounts()["low"].denials == 0
    assert kinds(manager) == ["topped_up", "held", "voided", "finished", "held", "settled"]


def test_the_most_important_is_served_first(manager: BudgetManager, store: Watched) -> None:
    """Whoever came first, budget goes to the highest priority; among equals to the first."""
    manager.register_agent("middle too", priority=2, max_tokens=0)
    served: list[str] = []
    somebody = threading.Semaphore(0)

    def wait(name: str) -> None:
        manager.reserve(name, 100, wait_s=LONG_S)
        served.append(name)
        somebody.release()

    threads: list[threading.Thread] = []
    for name in ("low", "middle", "middle too", "high"):
        threads.append(start(lambda name=name: wait(name)))  # type: ignore[misc]
        store.wait_for_waiters(1)
    for _ in threads:
        manager.top_up(None, 100)
        assert somebody.acquire(timeout=LONG_S)
    for thread in threads:
        thread.join()
    assert served == ["high", "middle", "middle too", "low"]


def test_a_large_demand_does_not_block_a_small_one(manager: BudgetManager, store: Watched) -> None:
    """What is too little for the first in the line goes to the next whom it helps."""
    large = start(lambda: manager.reserve("high", 1_000, wait_s=LONG_S))
    store.wait_for_waiters(1)
    small = start(lambda: manager.reserve("low", 10, wait_s=LONG_S))
    store.wait_for_waiters(1)
    manager.top_up(None, 10)
    small.join()
    assert manager.accounts()["low"].held == 10
    manager.top_up(None, 1_000)
    large.join()
    assert manager.accounts()["high"].held == 1_000


def test_a_wait_that_ends_in_vain_is_one_refusal(manager: BudgetManager) -> None:
    """Asking again and again leaves no trace; the last refusal is on the books."""
    with pytest.raises(BudgetExceededError, match="'low' asked for 10"):
        manager.reserve("low", 10, wait_s=0.01)
    assert kinds(manager) == ["denied"]
    assert manager.accounts()["low"].denials == 1


def test_what_waiting_does_not_help_is_refused_at_once(manager: BudgetManager) -> None:
    """A confident agent, or a closed scope, is not kept waiting."""
    manager.register_agent("sure", max_tokens=100, confidence_threshold=0.5)
    manager.report_confidence("sure", 0.9)
    with pytest.raises(ConfidenceGateError):
        manager.reserve("sure", 10, wait_s=LONG_S)
    manager.close_scope()
    with pytest.raises(BudgetExceededError, match="closed"):
        manager.reserve("low", 10, wait_s=LONG_S)


def test_what_fits_does_not_wait(manager: BudgetManager) -> None:
    """With budget there, `wait_s` changes nothing."""
    manager.top_up("low", 10)
    assert manager.reserve("low", 10, wait_s=LONG_S).tokens == 10


def test_a_hold_that_passes_its_limit_lets_others_in() -> None:
    """Nobody says that an owner vanished; the line asks again on its own."""
    now = [1_000.0]
    store = Watched(clock=lambda: now[0])
    manager = BudgetManager(store=store)
    manager.register_agent("a", max_tokens=100)
    manager.reserve("a", 100, ttl_s=5)
    thread = start(lambda: manager.reserve("a", 100, wait_s=LONG_S))
    store.wait_for_waiters(1)
    now[0] += 6
    thread.join()
    assert manager.accounts()["a"].expired_holds == 1
    assert manager.accounts()["a"].held == 100


def test_the_same_key_waits_and_is_granted_once(manager: BudgetManager, store: Watched) -> None:
    """A refusal on the way is not remembered under the key; the grant is."""
    thread = start(lambda: manager.reserve("low", 10, key="k", wait_s=LONG_S))
    store.wait_for_waiters(1)
    assert manager.resolve("k") is None
    manager.top_up("low", 10)
    thread.join()
    assert manager.reserve("low", 10, key="k").tokens == 10
    assert manager.accounts()["low"].held == 10


def test_an_outer_manager_is_waited_for_too(manager: BudgetManager, store: Watched) -> None:
    """Within a parent, the wait is for both books."""
    parent_store = Watched()
    parent = BudgetManager(store=parent_store)
    parent.register_agent("crew", max_tokens=0)
    thread = start(lambda: manager.within(parent, agent="crew").reserve("low", 10, wait_s=LONG_S))
    parent_store.wait_for_waiters(1)
    parent.top_up("crew", 10)
    store.wait_for_waiters(1)
    manager.top_up("low", 10)
    thread.join()
    assert manager.accounts()["low"].held == parent.accounts()["crew"].held == 10


def test_a_coroutine_waits_without_blocking(manager: BudgetManager) -> None:
    """The event loop goes on, and frees the budget itself."""

    async def main() -> None:
        waiting = asyncio.create_task(manager.areserve("low", 10, wait_s=LONG_S))
        await asyncio.sleep(0)
        await manager.atop_up("low", 10)
        hold = await waiting
        await hold.settle(7)

    asyncio.run(main())
    assert manager.accounts()["low"].consumed == 7


def test_a_cancelled_wait_leaves_the_line(manager: BudgetManager) -> None:
    """Nobody who went away is served, and the next one in the line is."""

    async def main() -> None:
        first = asyncio.create_task(manager.areserve("high", 10, wait_s=LONG_S))
        second = asyncio.create_task(manager.areserve("low", 10, wait_s=LONG_S))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await manager.atop_up(None, 10)
        await second

    asyncio.run(main())
    assert {name: account.held for name, account in manager.accounts().items()} == {
        "low": 10,
        "middle": 0,
        "high": 0,
    }


def test_a_thread_frees_budget_for_a_coroutine(manager: BudgetManager, store: Watched) -> None:
    """A top-up in another thread wakes a coroutine."""

    async def main() -> None:
        waiting = asyncio.create_task(manager.areserve("low", 10, wait_s=LONG_S))
        await asyncio.to_thread(store.wait_for_waiters, 1)
        await asyncio.to_thread(manager.top_up, "low", 10)
        await waiting

    asyncio.run(main())
    assert manager.accounts()["low"].held == 10


def test_an_event_loop_is_not_blocked(manager: BudgetManager) -> None:
    """`reserve(wait_s=...)` where a loop runs says what to call instead."""

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="areserve"):
            manager.reserve("low", 10, wait_s=1)

    asyncio.run(main())
    assert kinds(manager) == []


@pytest.mark.parametrize("wait_s", [-1, float("nan"), float("inf"), True, "1"])
def test_bad_waits_are_refused(manager: BudgetManager, wait_s: Any) -> None:
    """A wait that is no number of seconds raises, and nothing is held."""
    with pytest.raises((TypeError, ValueError), match="wait_s"):
        manager.reserve("low", 0, wait_s=wait_s)
    assert kinds(manager) == []


FREEING: dict[str, Command] = {
    "settled": Settle("h", "low", 5),
    "voided": Void("h"),
    "expired": Expire(),
    "topped_up": TopUp(None, 1),
    "finished": Finish("high"),
    "transferred": Transfer(None, "low", 1),
    "contract_changed": ChangeContract(BudgetContract("low", max_tokens=1)),
}


@pytest.mark.parametrize("door", ["sync", "async"])
@pytest.mark.parametrize("kind", sorted(FREEING))
def test_whatever_frees_budget_wakes_who_waits(kind: str, door: str) -> None:
    """At once, without asking again on its own, whichever door the command came in by."""
    now = [1_000.0]
    heard: list[str] = []
    manager = BudgetManager(clock=lambda: now[0])
    manager.add_listener(lambda _, entry: heard.append(entry.kind))
    for name, priority in (("low", 1), ("high", 3)):
        manager.register_agent(name, priority=priority, max_tokens=0)
    manager.apply_to("default", TopUp(None, 100))
    manager.apply_to("default", Reserve("low", 10, "h", ttl_s=5))
    now[0] += 6
    woken: list[str] = []
    with manager._engine.lines.waiting("default", 1, lambda: woken.append("now")) as (line, waiter):
        state = line.turn_of(waiter)
        assert state is not None
        line.refused(waiter, state)
        assert line.turn_of(waiter) is None
        woken.clear()
        if door == "sync":
            manager.apply_to("default", FREEING[kind])
        else:
            asyncio.run(manager.aapply_to("default", FREEING[kind]))
        assert manager.journal()[-1].kind == kind
        assert woken
        assert line.turn_of(waiter) is not None
    assert manager.flush_listeners(LONG_S)
    assert heard[-1] == kind


def test_an_awaited_hold_wakes_nobody_for_nothing(manager: BudgetManager) -> None:
    """What takes budget is no reason to ask again."""
    manager.top_up("low", 10)
    woken: list[str] = []
    with manager._engine.lines.waiting("default", 1, lambda: woken.append("now")) as (line, waiter):
        state = line.turn_of(waiter)
        assert state is not None
        line.refused(waiter, state)
        woken.clear()
        asyncio.run(manager.areserve("low", 10))
        assert not woken
