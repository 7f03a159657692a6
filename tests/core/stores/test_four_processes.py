"""40 calls of 2,000 on 5,000, from 4 processes at once: two go out, on each shared store."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tbcontracts import BudgetExceededError, BudgetManager

PROCESSES, CALLS = 4, 10  # of each process


def manager_on(url: str) -> BudgetManager:
    """Return a manager as each process has it."""
    manager = BudgetManager(store=url)
    manager.register_agent("writer", max_tokens=5_000)
    return manager


def call(url: str, start: Any, sent: Any) -> None:
    """Ask for all holds at once, and settle those that are granted when all others have asked."""
    manager = manager_on(url)
    manager.report()

    def one(_: int) -> None:
        start.wait(100)
        try:
            hold = manager.reserve("writer", 2_000)
        except BudgetExceededError:
            start.wait(100)
            return
        start.wait(100)
        hold.settle(2_000)
        sent.release()

    with ThreadPoolExecutor(CALLS) as pool:
        list(pool.map(one, range(CALLS)))
    manager.store.close()


def test_forty_calls_from_four_processes(shared_url: str) -> None:
    """All ask before the first is settled; the books say what was sent."""
    spawn = multiprocessing.get_context("spawn")
    start, sent = spawn.Barrier(PROCESSES * CALLS), spawn.Semaphore(0)
    workers = [spawn.Process(target=call, args=(shared_url, start, sent)) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert [sent.acquire(block=False) for _ in range(3)] == [True, True, False]
    manager = manager_on(shared_url)
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held, account.denials) == (4_000, 0, 38)
    manager.store.close()
