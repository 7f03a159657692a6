"""Holds of a manager: parallel ones, donors, the pool, dead owners, and observe mode."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.core.manager.team import conserved, small_team

from tbcontracts import BudgetExceededError, BudgetManager, Usage


def test_exactly_two_of_forty_parallel_holds_fit_threads() -> None:
    """40 threads hold 2,000 each on a budget of 5,000: exactly 2 are granted."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=5_000)
    start = threading.Barrier(40)

    def hold() -> bool:
        start.wait()
        try:
            manager.reserve("a", 2_000)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(40) as threads:
        granted = sum(threads.map(lambda _: hold(), range(40)))
    assert granted == 2
    assert manager.accounts()["a"].held == 4_000
    assert manager.accounts()["a"].denials == 38


def test_exactly_two_of_forty_parallel_holds_fit_asyncio() -> None:
    """40 tasks hold 2,000 each on a budget of 5,000: exactly 2 are granted."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=5_000)

    async def hold() -> None:
        await manager.areserve("a", 2_000)

    async def all_at_once() -> list[BaseException | None]:
        return await asyncio.gather(*(hold() for _ in range(40)), return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert sum(result is None for result in results) == 2
    assert sum(isinstance(result, BudgetExceededError) for result in results) == 38


def test_donors_give_in_order_and_keep_their_reserve() -> None:
    """The lowest priority gives first, nobody below its reserve, and the sum stays the same."""
    manager = small_team()
    hold = manager.reserve("boss", 2_000)
    assert [(move.donor, move.amount) for move in hold.moves] == [("helper", 900), ("peer", 100)]
    assert manager.report() == {
        "boss": {"allocated": 2_000, "consumed": 0, "remaining": 0},
        "peer": {"allocated": 900, "consumed": 0, "remaining": 900},
        "helper": {"allocated": 100, "consumed": 0, "remaining": 100},
    }
    assert conserved(manager.statement())


def test_budget_never_flows_uphill_and_a_denial_moves_nothing() -> None:
    """The helper gets nothing from its betters, and its refusal leaves every account alone."""
    manager = small_team()
    before = manager.report()
    with pytest.raises(BudgetExceededError) as refused:
        manager.reserve("helper", 1_001)
    assert manager.report() == before
    error = refused.value
    assert (error.agent_name, error.requested, error.available) == ("helper", 1_001, 1_000)
    assert error.code == "budget_exceeded"
    assert "manager.top_up('helper', 1)" in str(error)
    manager.top_up("helper", 1)
    manager.reserve("helper", 1_001)


def test_pool_is_used_before_donors() -> None:
    """What a finished agent left goes to the pool, and the pool gives before any donor."""
    manager = small_team()
    assert manager.finish("peer") == 1_000
    hold = manager.reserve("boss", 2_500)
    assert [(move.donor, move.amount) for move in hold.moves] == [(None, 1_000), ("helper", 500)]


def test_settle_frees_what_was_not_used() -> None:
    """A hold blocks its whole size; the settlement replaces it by what was used."""
    manager = small_team()
    hold = manager.reserve("helper", 600)
    assert manager.remaining("helper") == 400
    hold.settle(Usage(input_tokens=100, output_tokens=50))
    account = manager.accounts()["helper"]
    assert (account.consumed, account.held, account.remaining) == (150, 0, 850)
    assert (account.input_tokens, account.output_tokens) == (100, 50)


def test_dead_owners_hold_stops_blocking_at_its_limit() -> None:
    """P7: after its limit a hold is released; usage that still comes is posted."""
    now = [1_000.0]
    manager = small_team(clock=lambda: now[0])
    hold = manager.reserve("helper", 1_000, ttl_s=60)
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 500)
    now[0] += 60
    manager.reserve("helper", 500).void()
    assert manager.accounts()["helper"].expired_holds == 1
    assert hold.settle(70).late
    assert manager.accounts()["helper"].consumed == 70


def test_strict_mode_charges_a_dead_owners_hold_until_the_truth_comes() -> None:
    """In strict mode the limit charges the hold, unmeasured; a late settle replaces that."""
    now = [1_000.0]
    manager = small_team(clock=lambda: now[0], enforcement="strict")
    hold = manager.reserve("helper", 1_000, ttl_s=60)
    now[0] += 60
    manager.reserve("boss", 1).void()
    account = manager.accounts()["helper"]
    assert (account.consumed, account.unmeasured) == (1_000, 1_000)
    hold.settle(70)
    account = manager.accounts()["helper"]
    assert (account.consumed, account.unmeasured) == (70, 0)


def test_observe_mode_refuses_nothing_and_writes_it_down() -> None:
    """In observe mode a hold that does not fit is let through, moves nothing and is recorded."""
    manager = small_team(enforcement="observe")
    hold = manager.reserve("helper", 5_000)
    assert hold.would_deny
    assert manager.accounts()["helper"].held == 0
    hold.settle(4_000)
    assert manager.remaining("helper") == -3_000
    assert manager.remaining("boss") == 1_000
    kinds = [entry.kind for entry in manager.journal()]
    assert kinds == ["opened", "opened", "opened", "would_deny", "settled"]
    manager.record_usage("helper", 10)
