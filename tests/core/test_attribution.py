"""Who is acting: through tasks, threads and generators, for each manager on its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tbcontracts import BudgetManager
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize


@pytest.fixture
def manager() -> BudgetManager:
    """Return a manager with two agents."""
    manager = BudgetManager()
    for name in ("a", "b"):
        manager.register_agent(name, max_tokens=10_000)
    return manager


def call(manager: BudgetManager) -> str:
    """Make a call that names no agent; return who was charged."""
    begun = manager.begin_call(None, CallShape(RequestSize(10, 40), 5))
    begun.end(Ending(unbilled=True))
    return begun.agent_name


def test_a_call_that_names_nobody_is_the_current_agents(manager: BudgetManager) -> None:
    """The inner block counts, and the outer one again after it, whatever happened in there."""
    with manager.acting_as("a"):
        assert call(manager) == "a"
        with suppress(LookupError), manager.acting_as(" b "):
            assert call(manager) == "b"
            raise LookupError
        assert call(manager) == "a"
    assert manager.current_agent is None


def test_scopes_of_a_manager_share_it_and_other_managers_do_not(manager: BudgetManager) -> None:
    """The current agent belongs to the manager, whichever of its books are used."""
    other = BudgetManager()
    other.register_agent("x", max_tokens=10)
    with manager.acting_as("a"), other.acting_as("x"):
        assert manager.scope("run").current_agent == "a"
        assert other.current_agent == "x"


def test_gathered_tasks_each_have_their_own(manager: BudgetManager) -> None:
    """Tasks side by side do not see one another's agents, and begin with their maker's."""

    async def act(name: str) -> list[str | None]:
        seen = [manager.current_agent]
        with manager.acting_as(name):
            await asyncio.sleep(0)
            seen.append(call(manager))
            seen.append(await asyncio.create_task(inherited()))
            seen.append(await asyncio.to_thread(call, manager))
        return seen

    async def inherited() -> str:
        return call(manager)

    async def both() -> list[list[str | None]]:
        with manager.acting_as("b"):
            return list(await asyncio.gather(act("a"), act("b")))

    assert asyncio.run(both()) == [["b", "a", "a", "a"], ["b", "b", "b", "b"]]


def test_plain_threads_begin_with_nobody(manager: BudgetManager) -> None:
    """Unless they are given the context, or say it themselves."""

    def in_thread() -> str | None:
        return manager.current_agent

    def says_so() -> str | None:
        with manager.acting_as("b"):
            return manager.current_agent

    with manager.acting_as("a"), ThreadPoolExecutor(1) as threads:
        assert threads.submit(in_thread).result() is None
        assert threads.submit(contextvars.copy_context().run, in_thread).result() == "a"
        assert threads.submit(says_so).result() == "b"
        assert threads.submit(in_thread).result() is None


def test_threads_side_by_side_do_not_mix(manager: BudgetManager) -> None:
    """Sixteen threads act as one of two agents at the same time."""
    start = threading.Barrier(16)

    def act(number: int) -> bool:
        name = "ab"[number % 2]
        with manager.acting_as(name):
            start.wait()
            return all(call(manager) == name for _ in range(20))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(act, range(16)))


def test_closing_is_the_agents_alone(manager: BudgetManager) -> None:
    """Who finishes may use its reserve, in this block, and nobody else's."""
    manager.register_agent("soft", max_tokens=100, min_reserve=60, on_exceeded="end")
    manager.change_contract("a", min_reserve=10_000)
    manager.change_contract("b", min_reserve=10_000)
    with manager.closing("a"), pytest.raises(Exception, match="closing"):
        manager.reserve("soft", 50)
    with manager.closing("soft"):
        manager.reserve("soft", 50).void()
    with pytest.raises(Exception, match="leave its reserve alone"):
        manager.reserve("soft", 50)
