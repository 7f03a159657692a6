"""Scopes and agents over time: periods, closing, finishing and reopening, changes of contracts."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ContractConflictError,
    TBCError,
)
from tbcontracts.books import Statement
from tbcontracts.commands import ChangeContract, Command
from tbcontracts.stores.base import Applied
from tbcontracts.stores.memory import MemoryStore


def team(**settings: Any) -> BudgetManager:
    """Return a manager with three agents."""
    manager = BudgetManager(**settings)
    manager.register_agent("boss", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("peer", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("helper", priority=1, max_tokens=1_000, min_reserve=100)
    return manager


def moves(hold: Any) -> list[tuple[str | None, int]]:
    """Return who gave how much for a hold."""
    return [(move.donor, move.amount) for move in hold.moves]


def total(manager: BudgetManager) -> int:
    """Return all allocation and the pool, which is what the books say it is."""
    statement = manager.statement()
    found = sum(account.allocated for account in statement.accounts) + statement.pool
    assert found == statement.total
    return found


def agents_of(manager: BudgetManager, *names: str) -> list[int]:
    """Return what these agents have been given."""
    return [manager.accounts()[name].allocated for name in names]


# --- finish ---------------------------------------------------------------------------------------


def test_a_finished_agents_rest_goes_to_the_pool_whatever_it_was_kept_for() -> None:
    """Its reserve too; what open holds leave follows when they end."""
    manager = team()
    manager.record_usage("peer", 200)
    hold = manager.reserve("peer", 300)
    assert manager.finish("peer") == 500
    assert manager.statement().pool == 500
    assert manager.accounts()["peer"].finished
    hold.settle(120)
    assert manager.statement().pool == 680
    assert manager.report()["peer"] == {"allocated": 320, "consumed": 320, "remaining": 0}
    assert manager.finish("peer") == 0
    assert total(manager) == 3_000


def test_a_finished_agent_gives_to_lower_priorities_through_the_pool() -> None:
    """What is nobody's any more may go anywhere."""
    manager = team()
    manager.finish("boss")
    assert moves(manager.reserve("helper", 1_500)) == [(None, 500)]


def test_a_later_hold_reopens_a_finished_agent() -> None:
    """From the pool, then from donors; its reserve is safe again."""
    manager = team()
    manager.finish("peer")
    assert moves(manager.reserve("peer", 1_200)) == [(None, 1_000), ("helper", 200)]
    assert not manager.accounts()["peer"].finished
    manager.finish("helper")
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 5_000)
    assert manager.accounts()["helper"].finished  # a refusal reopens nothing
    assert total(manager) == 3_000


@pytest.mark.parametrize("door", ["sync", "async"])
def test_finishing_at_both_doors(door: str) -> None:
    """Both say how much went to the pool, and a top-up opens the agent again."""
    manager = team()
    gone = manager.finish("boss") if door == "sync" else asyncio.run(manager.afinish("boss"))
    assert gone == 1_000
    manager.top_up("boss", 10)
    assert manager.remaining("boss") == 10
    assert not manager.accounts()["boss"].finished


# --- change_contract ------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_change_is_one_of_the_contract_that_the_scope_has(door: str) -> None:
    """Another scope's change adds nothing here; scopes opened later have both."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=1_000)
    manager.remaining("a")

    def change(books: BudgetManager, **fields: int) -> BudgetContract:
        if door == "sync":
            return books.change_contract("a", **fields)
        return asyncio.run(books.achange_contract("a", **fields))

    change(manager.scope("x"), max_tokens=2_000)
    assert change(manager, priority=2).terms == (2, 1_000, 100, None)
    assert manager.remaining("a") == 1_000
    assert manager.scope("x").accounts()["a"].contract == BudgetContract("a", 1, 2_000)
    assert manager.scope("later").accounts()["a"].contract == BudgetContract("a", 2, 2_000)
    assert manager.scope("later").remaining("a") == 2_000


class InTheMiddle(MemoryStore):
    """A memory store where somebody is quicker: between a reading and the change that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.quicker: list[Callable[[], object]] = []

    def read(self, scope: str) -> Statement | None:
        """Return the books, which then are no longer true."""
        statement = super().read(scope)
        while self.quicker:
            self.quicker.pop()()
        return statement


@pytest.mark.parametrize("door", ["sync", "async"])
def test_of_two_changes_at_once_neither_is_lost(door: str) -> None:
    """Whoever comes second changes what the first has left, here and for scopes opened later."""
    store = InTheMiddle()
    manager, other = BudgetManager(store=store), BudgetManager(store=store)
    for one in (manager, other):
        one.register_agent("a", max_tokens=1_000)
        one.remaining("a")
    store.quicker.append(lambda: manager.change_contract("a", max_tokens=2_000))
    store.quicker.append(lambda: other.change_contract("a", confidence_threshold=0.5))
    if door == "sync":
        changed = manager.change_contract("a", priority=3)
    else:
        changed = asyncio.run(manager.achange_contract("a", priority=3))
    assert changed.terms == (3, 2_000, 200, 0.5)
    assert manager.accounts()["a"].contract == changed
    assert manager.contracts["a"].terms == (3, 2_000, 200, None)
    assert manager.remaining("a") == 2_000


def test_a_contract_that_never_stands_still_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After many tries the change is given up, and nothing of it stays."""
    monkeypatch.setattr("tbcontracts.engine._CHANGE_TRIES_MAX", 3)
    store = InTheMiddle()
    manager, other = BudgetManager(store=store), BudgetManager(store=store)
    for one in (manager, other):
        one.register_agent("a", max_tokens=1_000)
        one.remaining("a")
    priorities = iter(range(2, 100))

    def apply(scope: str, command: Command) -> Applied:
        if isinstance(command, ChangeContract) and command.contract.max_tokens == 2_000:
            terms = other.contracts["a"].changed(priority=next(priorities))
            MemoryStore.apply(store, scope, ChangeContract(terms))
        return MemoryStore.apply(store, scope, command)

    store.apply = apply  # type: ignore[method-assign]
    with pytest.raises(ContractConflictError, match="kept changing"):
        manager.change_contract("a", max_tokens=2_000)
    assert next(priorities) == 5
    assert manager.contracts["a"].max_tokens == 1_000


def test_a_smaller_budget_stops_at_what_is_used_and_held() -> None:
    """The difference leaves the books, and what is used or held does not."""
    manager = team()
    manager.record_usage("boss", 500)
    manager.reserve("boss", 200)
    manager.change_contract("boss", max_tokens=800)
    assert (agents_of(manager, "boss"), total(manager)) == ([800], 2_800)
    manager.change_contract("boss", max_tokens=100)
    assert (agents_of(manager, "boss"), total(manager)) == ([700], 2_700)
    assert manager.remaining("boss") == 0


def test_a_smaller_budget_does_not_forgive_an_overdraft() -> None:
    """An overdrawn agent keeps what it has: less would be more debt, more would be a gift."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=1_000)
    with pytest.raises(BudgetExceededError):
        manager.record_usage("a", 1_500)
    manager.change_contract("a", max_tokens=100)
    assert manager.report()["a"] == {"allocated": 1_000, "consumed": 1_500, "remaining": -500}
    manager.change_contract("a", max_tokens=900)
    assert manager.remaining("a") == -500
    manager.change_contract("a", max_tokens=1_600)
    assert manager.remaining("a") == 100


def test_changed_terms_are_in_force_at_once() -> None:
    """Priority, reserve and threshold count from the next hold on; the others' contracts stay."""
    manager = team()
    manager.change_contract("peer", priority=4)
    with pytest.raises(BudgetExceededError):
        manager.reserve("boss", 1_901)  # the helper's 900; the peer is above now
    manager.change_contract("helper", min_reserve=1_000)
    with pytest.raises(BudgetExceededError):
        manager.reserve("boss", 1_001)
    manager.change_contract("boss", confidence_threshold=0.5)
    manager.report_confidence("boss", 0.6)
    with pytest.raises(BudgetExceededError, match=r"0\.6"):
        manager.reserve("boss", 1)


def test_a_change_is_for_this_scope_and_those_opened_later() -> None:
    """Books that are open already keep the contract that they were opened with."""
    manager = team()
    early = manager.scope("early")
    early.record_usage("boss", 1)
    manager.change_contract("boss", max_tokens=50, min_reserve=0)
    assert agents_of(early, "boss") == [1_000]
    assert agents_of(manager.scope("late"), "boss") == [50]


# --- scopes ---------------------------------------------------------------------------------------


def test_a_scope_is_opened_whole_by_its_first_command() -> None:
    """All contracts at once, so that every donor is there; naming it does nothing yet."""
    manager = team()
    run = manager.scope("acme/run 7")
    assert "acme/run 7" not in manager.store.scopes()
    run.reserve("boss", 1_500)
    entries = run.journal()
    assert [entry.kind for entry in entries] == ["opened"] * 3 + ["held"]
    assert manager.journal() == ()


def test_views_of_a_scope_are_the_same_books() -> None:
    """A scope's path is absolute, and blanks around it are none of it."""
    manager = team(scope="acme")
    manager.scope("run").scope(" other ").record_usage("boss", 7)
    assert manager.scope("other").accounts()["boss"].consumed == 7
    assert manager.scope("other").identity == manager.scope("run").scope("other").identity


@pytest.mark.parametrize("door", ["sync", "async"])
def test_closing_a_scope_by_its_path(door: str) -> None:
    """That scope takes no holds, once and for all; the others do; what was used still goes in."""
    manager = team(scope="here")
    run = manager.scope("run")
    hold = run.reserve("boss", 100)
    for _ in range(2):
        if door == "sync":
            manager.close_scope("run")
        else:
            asyncio.run(manager.aclose_scope("run"))
    manager.reserve("boss", 1)
    with pytest.raises(BudgetExceededError, match="scope 'run' is closed"):
        run.reserve("boss", 1)
    with pytest.raises(BudgetExceededError, match="scope 'run' is closed"):
        asyncio.run(run.areserve("boss", 1))
    hold.settle(80)
    run.record_usage("boss", 5)
    assert run.report()["boss"]["consumed"] == 85
    assert run.statement().closed
    assert not manager.statement().closed
    with pytest.raises(TBCError, match="closed"):
        run.change_contract("boss", max_tokens=1)
    assert [entry.kind for entry in run.journal()].count("closed") == 1


def test_a_period_in_the_name_begins_new_books_by_the_stores_clock() -> None:
    """At each reserve; a hold stays with the books it was taken from, in both directions."""
    now = [1_706_745_599.0]  # 2024-01-31, 23:59:59
    manager = team(scope="acme/{utc:%Y-%m}/{utc:%d}", clock=lambda: now[0])
    hold, other = manager.reserve("boss", 900), manager.reserve("boss", 50)
    assert hold.scope == "acme/2024-01/31"
    now[0] += 1
    assert manager.scope_name == "acme/2024-02/01"
    manager.reserve("boss", 900)
    hold.settle(800)
    other.void()
    january = manager.scope("acme/2024-01/31").accounts()["boss"]
    assert (january.consumed, january.held) == (800, 0)
    february = manager.accounts()["boss"]
    assert (february.consumed, february.held) == (0, 900)


def test_what_is_known_of_scopes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many scopes a manager remembers some; one that it forgot is opened again, unharmed."""
    monkeypatch.setattr("tbcontracts.engine._OPENED_MAX", 3)
    manager = team()
    for _ in range(2):
        for number in range(10):
            manager.scope(f"run-{number}").record_usage("boss", 10)
            assert len(manager._engine._opened) <= 3
    assert {manager.scope(f"run-{number}").remaining("boss") for number in range(10)} == {980}


def test_warnings_come_once_each_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes up names is not warned of each of them."""
    monkeypatch.setattr("tbcontracts.registry._WARNED_MAX", 3)
    manager = team()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(2):
            for number in range(10):
                manager.warn_once(f"topic {number}", f"of {number}")
    assert [str(warning.message) for warning in warned] == ["of 0", "of 1", "of 2"]
    assert len(manager._engine._warned) == 3
