"""Blocks of holds: their end never hides what ended the block, and a cancelled end goes on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tbcontracts import BudgetManager


class UserError(Exception):
    """What went wrong in the block."""

    @property
    def status_code(self) -> int:
        """Fail, as a badly made error may."""
        raise ZeroDivisionError


def test_the_error_of_a_block_is_the_one_that_is_seen() -> None:
    """A hold that cannot be ended, or an error that cannot be looked at, hides nothing."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=1_000)
    same, again = (manager.reserve("a", 100, key="k") for _ in range(2))
    same.settle(50)
    with pytest.raises(KeyError), again:
        raise KeyError
    with pytest.raises(UserError), manager.reserve("a", 100):
        raise UserError
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (150, 0)


@pytest.mark.anyio
async def test_a_cancelled_settlement_goes_on_and_the_cancellation_too(tmp_path: Path) -> None:
    """Whoever cancels a task in the middle of a settlement gets a cancelled task, and the books."""
    asked, answer = threading.Event(), threading.Event()
    answer.set()

    def clock() -> float:
        asked.set()
        assert answer.wait(60)
        return 1_000.0

    manager = BudgetManager(store=f"sqlite:///{tmp_path}/b.db", clock=clock)
    manager.register_agent("a", max_tokens=1_000)
    held = asyncio.Event()

    async def work() -> None:
        async with await manager.areserve("a", 100) as hold:
            asked.clear()
            answer.clear()
            held.set()
            await hold.settle(7)

    task = asyncio.create_task(work())
    await held.wait()
    assert await asyncio.to_thread(asked.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer.set()
    while (await manager.aaccounts())["a"].held:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0)
    assert manager.accounts()["a"].consumed == 7
    manager.store.close()
