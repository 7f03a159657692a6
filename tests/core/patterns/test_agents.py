"""Agents by pattern: which pattern counts, who gets an account, and how many do."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.patterns.conftest import Managers, allocated

from tbcontracts import BudgetExceededError, BudgetManager, ContractConflictError, UnknownAgentError
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import ContractPattern
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize


def call(manager: BudgetManager, agent: str) -> Any:
    """Begin and end one model call as integrations do."""
    begun = manager.begin_call(agent, CallShape(RequestSize(10, 10)))
    begun.hold.settle(7)
    return begun


def test_each_agent_that_matches_has_an_account_of_its_own() -> None:
    """Opened when it is first seen, in this scope only; who is never seen lends nothing."""
    manager = BudgetManager()
    manager.register_pattern("research_*", priority=2, max_tokens=1_000, max_output_tokens=50)
    assert allocated(manager) == {}
    manager.reserve("research_1", 400).settle(300)
    manager.record_usage(" research_2 ", 10)
    assert allocated(manager) == {"research_1": 1_000, "research_2": 1_000}
    assert manager.remaining("research_1") == 700
    assert set(manager.contracts) == {"research_1", "research_2"}
    assert manager.contract_of("research_3") is not None
    assert manager.contracts["research_1"].max_output_tokens == 50
    other = manager.scope("other")
    assert allocated(other) == {}
    assert dict(other.contracts) == {}
    with pytest.raises(BudgetExceededError):
        manager.reserve("research_1", 5_000)
    with pytest.raises(UnknownAgentError):
        manager.reserve("Research_1", 1)


def test_names_come_first_then_the_most_specific_pattern() -> None:
    """In whichever order they are registered; a star in `register_agent` is a star."""
    manager = BudgetManager()
    manager.register_pattern("*", max_tokens=1)
    manager.register_pattern("research_*", max_tokens=2)
    manager.register_pattern("research_eu_*", max_tokens=3)
    manager.register_agent("research_eu_1", max_tokens=4)
    manager.register_agent("research_*", max_tokens=5)
    for name in ("x", "research_1", "research_eu_2", "research_eu_1", "research_*"):
        manager.record_usage(name, 0)
    assert allocated(manager) == {
        "x": 1,
        "research_1": 2,
        "research_eu_2": 3,
        "research_eu_1": 4,
        "research_*": 5,
    }
    assert [one.agent_name for one in manager.patterns] == ["research_eu_*", "research_*", "*"]


def test_ties_and_conflicts_are_refused() -> None:
    """Equally long literal parts that can meet in one name; the same pattern with other terms."""
    manager = BudgetManager()
    first = manager.register_pattern("re*", max_tokens=1)
    assert manager.register_pattern("re*", max_tokens=1) == first
    assert isinstance(first, ContractPattern)
    with pytest.raises(ConfigurationError, match=r"'re\*' and '\*ch' can match the same name"):
        manager.register_pattern("*ch", max_tokens=2)
    manager.register_pattern("ab*", max_tokens=2)  # as long, but no name matches both
    with pytest.raises(ContractConflictError, match=r"pattern 're\*' is registered already"):
        manager.register_pattern("re*", max_tokens=2)
    with pytest.raises(ContractConflictError, match=r"agents_max=1000\), not .*agents_max=5\)"):
        manager.register_pattern("re*", max_tokens=1, agents_max=5)
    with pytest.raises(ValueError, match="agents_max"):
        manager.register_pattern("x*", agents_max=0)
    with pytest.raises(ValueError, match="priority"):
        manager.register_pattern("x*", priority=0)


def test_a_runaway_of_names_falls_to_unattributed() -> None:
    """A pattern makes so many agents in a scope and no more, with one warning; others have room."""
    manager = BudgetManager()
    manager.register_pattern("worker_*", max_tokens=1_000, agents_max=3)
    for number in range(3):
        call(manager, f"worker_{number}")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number in range(3, 6):
            call(manager, f"worker_{number}")
    said = [str(one.message) for one in warned]
    assert [text for text in said if "made 3 agents in scope 'default'" in text] == said[:1]
    assert all("has no contract" in text for text in said[1:])
    accounts = manager.accounts()
    assert [name for name, one in accounts.items() if one.contract] == [
        "worker_0",
        "worker_1",
        "worker_2",
    ]
    assert accounts["worker_5"].consumed == 7
    assert call(manager, "worker_1").hold.tokens
    with pytest.raises(UnknownAgentError, match=r"'worker_\*' makes no more agents here"):
        manager.reserve("worker_9", 1)
    assert allocated(manager.scope("another")) == {}
    call(manager.scope("another"), "worker_77")
    assert allocated(manager.scope("another")) == {"worker_77": 1_000}


def test_who_is_refused_beyond_the_bound() -> None:
    """Where calls that nobody answers for are refused, so are these."""
    manager = BudgetManager(unattributed="deny")
    manager.register_pattern("worker_*", max_tokens=1_000, agents_max=1)
    call(manager, "worker_0")
    with (
        pytest.warns(UserWarning, match="made 1 agents"),
        pytest.raises(BudgetExceededError) as refused,
    ):
        call(manager, "worker_1")
    assert refused.value.code == "unattributed"


@pytest.fixture
def open_manager(any_url: str, on_books: Managers) -> Callable[[], BudgetManager]:
    """Return a maker of managers in each kind of store, on the same books where there are any."""

    def make() -> BudgetManager:
        manager = on_books(any_url)
        manager.register_agent("donor", max_tokens=1_000, min_reserve=0)
        manager.register_pattern("w_*", priority=2, max_tokens=100, agents_max=2)
        return manager

    return make


def test_everything_else_works_by_pattern(open_manager: Callable[[], BudgetManager]) -> None:
    """Awaited holds, transfers, top-ups, changed contracts, finishing, `govern`, `acting_as`."""
    manager = open_manager()

    async def awaited() -> None:
        async with await manager.areserve("w_1", 300) as hold:
            await hold.settle(300)
        await manager.atop_up("w_1", 50)
        await manager.achange_contract("w_1", max_tokens=200)

    asyncio.run(awaited())
    assert manager.remaining("w_1") == 150
    assert manager.remaining("donor") == 800
    assert manager.contract_of("w_1") is not None
    assert manager.contracts["w_1"].max_tokens == 200
    manager.change_contract("w_2", priority=3)
    assert manager.accounts()["w_2"].contract is not None
    assert manager.contracts["w_2"].priority == 3

    @manager.govern("w_2", usage_fn=lambda _: 20)
    def work() -> str:
        return "done"

    assert work() == "done"
    with manager.acting_as("w_2"):
        assert manager.current_agent == "w_2"
    assert manager.accounts()["w_2"].consumed == 20
    manager.finish("w_2")
    assert manager.remaining("w_2") == 0
    outer = open_manager()
    inner = BudgetManager()
    inner.register_agent("a", max_tokens=50)
    inner.within(outer.scope("above"), agent="w_1").reserve("a", 10).settle(10)
    assert outer.scope("above").accounts()["w_1"].consumed == 10


def test_many_scopes_with_new_names_are_forgotten() -> None:
    """Names that come once do not add up in a process that serves for ever."""
    manager = BudgetManager()
    manager.register_pattern("w_*", max_tokens=10)
    for number in range(1_100):
        manager.scope(f"run {number}").record_usage(f"w_{uuid.UUID(int=number)}", 1)
    assert len(manager._engine.patterns._seen) == 1_000
    manager.scope("run 0").record_usage(f"w_{uuid.UUID(int=0)}", 1)
    assert manager.scope("run 0").remaining(f"w_{uuid.UUID(int=0)}") == 8


def test_a_pattern_has_a_hash_whatever_its_fallback_is() -> None:
    """As every contract has; how many agents it makes is a part of what it says."""
    one = ContractPattern("re*", on_exceeded={"fallback": []})
    assert {one: 1}[one] == 1
    assert one != ContractPattern("re*", on_exceeded={"fallback": []}, agents_max=5)
