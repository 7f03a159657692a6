"""A task that is cancelled while a shared store is at work: its hold blocks nobody afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from tbcontracts import BudgetManager, abandoned

PATIENCE_S = 60


class Clock:
    """A clock that holds up the command that looks at it, which is in its transaction then."""

    def __init__(self) -> None:
        self.armed = False
        self.looked_at = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> float:
        """Return the time, when it is let."""
        if self.armed:
            self.looked_at.set()
            assert self.go_on.wait(PATIENCE_S)
        return 1_000.0


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Return the store's clock."""
    made = Clock()
    yield made
    made.go_on.set()


@pytest.fixture
def manager(shared_url: str, clock: Clock) -> Iterator[BudgetManager]:
    """Return a manager on a shared store, its books open."""
    made = BudgetManager(store=shared_url, clock=clock)
    made.register_agent("a", max_tokens=1_000)
    made.report()
    yield made
    made.store.close()


async def all_is_done() -> None:
    """Wait until what was begun in the background has ended."""
    while running := set(abandoned._running):
        await asyncio.wait(running)


def kinds(manager: BudgetManager) -> list[str]:
    """Return what the journal tells of."""
    return [entry.kind for entry in manager.journal()]


async def cancelled(manager: BudgetManager, clock: Clock, then: Callable[[], object]) -> None:
    """Ask for a hold, and be cancelled while the store is in the middle of it."""
    clock.armed = True
    task = asyncio.ensure_future(manager.areserve("a", 110))
    assert await asyncio.to_thread(clock.looked_at.wait, PATIENCE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    then()


@pytest.mark.anyio
async def test_a_hold_whose_task_is_gone_is_given_back(
    manager: BudgetManager, clock: Clock
) -> None:
    """At once, not at its limit; and whoever waits behind it gets the budget."""
    await cancelled(manager, clock, clock.go_on.set)
    await all_is_done()
    assert manager.accounts()["a"].held == 0
    assert kinds(manager) == ["opened", "held", "voided"]
    await (await manager.areserve("a", 1_000)).void()


def test_a_hold_is_given_back_when_its_loop_closes(manager: BudgetManager, clock: Clock) -> None:
    """The transaction outlives the event loop, and so does the remedy."""
    asyncio.run(cancelled(manager, clock, clock.go_on.set))
    assert manager.accounts()["a"].held == 0


@pytest.mark.anyio
async def test_a_hold_of_two_books_is_given_back_on_both(
    manager: BudgetManager, clock: Clock
) -> None:
    """The hold on the outer manager's agent goes with the inner one."""
    team = BudgetManager()
    team.register_agent("crew", max_tokens=1_000)
    await cancelled(manager.within(team, agent="crew"), clock, clock.go_on.set)
    await all_is_done()
    assert team.accounts()["crew"].held == manager.accounts()["a"].held == 0
