"""Scopes of a manager: separate books, periods, closing, and managers within one another."""

from __future__ import annotations

import pytest
from tests.core.manager.team import small_team

from tbcontracts import BudgetExceededError, BudgetManager, TBCError


def test_scopes_are_separate_books_under_the_same_contracts() -> None:
    """A scope is a name: opened on first touch, with all contracts, and independent."""
    manager = small_team()
    run = manager.scope("acme/run-7")
    run.record_usage("boss", 900)
    assert run.remaining("boss") == 100
    assert manager.remaining("boss") == 1_000
    late = manager.register_agent("late", max_tokens=5)
    assert run.report()["late"]["allocated"] == late.max_tokens


def test_periods_in_scope_names_follow_the_clock() -> None:
    """A month in the name makes new books each month, without a reset."""
    now = [1_700_000_000.0]
    manager = small_team(scope="acme/{utc:%Y-%m}", clock=lambda: now[0])
    manager.record_usage("boss", 900)
    assert manager.scope_name == "acme/2023-11"
    hold = manager.reserve("boss", 50)
    now[0] += 31 * 86_400
    assert manager.remaining("boss") == 1_000
    hold.settle(40)  # stays on the books it was taken from
    assert manager.remaining("boss") == 1_000
    assert manager.scope("acme/2023-11").accounts()["boss"].consumed == 940


def test_closed_scopes_take_no_holds_but_late_settles() -> None:
    """A closed scope refuses, and still takes what was used."""
    manager = small_team()
    hold = manager.reserve("boss", 100)
    manager.close_scope()
    with pytest.raises(BudgetExceededError, match="closed") as refused:
        manager.reserve("boss", 1)
    assert refused.value.code == "scope_closed"
    hold.settle(60)
    assert manager.accounts()["boss"].consumed == 60
    with pytest.raises(TBCError, match="closed"):
        manager.top_up("boss", 1)


def test_within_holds_on_both_books_and_gives_back_on_both() -> None:
    """A manager within another holds on the parent first, and leaves nothing when it is refused."""
    team = BudgetManager()
    team.register_agent("crew-a", max_tokens=500)
    crew = small_team().within(team, agent="crew-a")
    hold = crew.reserve("boss", 300)
    assert team.accounts()["crew-a"].held == 300
    hold.settle(200)
    assert team.accounts()["crew-a"].consumed == 200
    with pytest.raises(BudgetExceededError, match="crew-a"):
        crew.reserve("boss", 400)
    assert crew.accounts()["boss"].held == 0
    team.top_up("crew-a", 5_000)
    with pytest.raises(BudgetExceededError, match="'helper'"):
        crew.scope("tiny").reserve("helper", 1_100)
    assert team.accounts()["crew-a"].held == 0
    crew.record_usage("boss", 10)
    assert team.accounts()["crew-a"].consumed == 210
