"""Agents by pattern on shared books: restarts, threads, tasks and processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from tests.core.patterns.conftest import Managers, allocated

from tbcontracts import ContractConflictError, UnknownAgentError


def test_a_restarted_process_counts_on(url: str, on_books: Managers) -> None:
    """On durable books the agents that were made before take their place, and keep their terms."""
    manager = on_books(url)
    manager.register_pattern("w_*", max_tokens=100, agents_max=2)
    manager.record_usage("w_1", 10)
    manager.record_usage("w_2", 10)
    again = on_books(url)
    again.register_pattern("w_*", max_tokens=100, agents_max=2)
    again.register_agent("x", max_tokens=1)
    again.record_usage("w_2", 1)
    with pytest.warns(UserWarning, match="made 2 agents"), pytest.raises(UnknownAgentError):
        again.record_usage("w_3", 1)
    changed = on_books(url, on_contract_change="raise")
    changed.register_pattern("w_*", max_tokens=200)
    with pytest.raises(ContractConflictError, match="max_tokens 100"):
        changed.record_usage("w_1", 1)


def test_a_restart_with_other_patterns(url: str, on_books: Managers) -> None:
    """Agents keep the terms they were opened with, or get the new ones where that is wished."""
    before = on_books(url)
    before.register_pattern("w_*", max_tokens=100)
    before.register_pattern("gone_*", max_tokens=50)
    before.record_usage("w_1", 10)
    before.record_usage("gone_1", 10)
    keeping = on_books(url)
    keeping.register_pattern("w*", max_tokens=300)
    with pytest.warns(UserWarning, match="'w_1' has another contract in scope 'default'"):
        keeping.record_usage("w_1", 10)
    keeping.record_usage("w_2", 10)
    assert allocated(keeping) == {"w_1": 100, "gone_1": 50, "w_2": 300}
    applying = on_books(url, on_contract_change="apply")
    applying.register_pattern("w_?", max_tokens=500)
    applying.record_usage("w_1", 10)
    assert allocated(applying) == {"w_1": 500, "gone_1": 50, "w_2": 300}
    applying.record_usage("w_2", 0)  # seen again: now it has its new terms, too
    assert allocated(applying) == {"w_1": 500, "gone_1": 50, "w_2": 500}
    assert {name: one.consumed for name, one in applying.accounts().items()} == {
        "w_1": 30,
        "gone_1": 10,
        "w_2": 10,
    }


def test_threads_that_see_one_name_first_open_it_once(any_url: str, on_books: Managers) -> None:
    """Many threads begin with the same new agents; each gets one account and all its charges."""
    manager = on_books(any_url)
    manager.register_pattern("w_*", max_tokens=10_000)
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait()
        for number in range(20):
            manager.record_usage(f"w_{number}", 5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.consumed for one in manager.accounts().values()} == {40}
    assert manager.statement().total == 20 * 10_000


def test_tasks_that_see_one_name_first_open_it_once(any_url: str, on_books: Managers) -> None:
    """Awaited, at the same time, from two managers on the same books where there are any."""
    managers = [on_books(any_url)]
    managers.append(managers[0] if any_url.startswith("memory") else on_books(any_url))
    for manager in set(managers):
        manager.register_pattern("w_*", max_tokens=10_000)

    async def work() -> None:
        await asyncio.gather(
            *(manager.arecord_usage(f"w_{n % 10}", 5) for manager in managers for n in range(40))
        )

    asyncio.run(work())
    accounts = on_books(any_url).accounts() if len(set(managers)) == 2 else managers[0].accounts()
    assert {one.consumed for one in accounts.values()} == {40}
    assert sum(one.allocated for one in accounts.values()) == 10 * 10_000


_WORKER = """
import sys, warnings
from tbcontracts import BudgetManager, UnknownAgentError

warnings.simplefilter("ignore")
url, number = sys.argv[1:]
manager = BudgetManager(store=url)
manager.register_pattern("w_*", max_tokens=100, agents_max=6)
manager.remaining("w_0")
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for name in [f"w_{n}" for n in range(5)] + [f"w_{number}_{n}" for n in range(5)]:
    try:
        manager.reserve(name, 20).settle(10)
    except UnknownAgentError:
        refused += 1
print(refused)
"""


def test_processes_share_the_agents_that_they_make(url: str, on_books: Managers) -> None:
    """Each name gets one account; a runaway is bounded by what each process may make."""
    first = on_books(url)
    first.register_pattern("w_*", max_tokens=100, agents_max=6)
    first.record_usage("w_0", 0)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    # The shared five take five of six places; whether others' sixth was seen is a race.
    assert {worker.communicate()[0] for worker in workers} <= {"4\n", "5\n"}
    consumed = {name: one.consumed for name, one in on_books(url).accounts().items()}
    assert [consumed.pop(f"w_{n}") for n in range(5)] == [30] * 5
    assert consumed.keys() <= {f"w_{number}_0" for number in range(3)}
    assert set(consumed.values()) == {10}
