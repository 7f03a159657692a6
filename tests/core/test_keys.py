"""What a key that is used again may and may not bring: the first answer, never a second call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.commands import Granted
from tbcontracts.errors import HoldResolvedError

both_doors = pytest.mark.parametrize("door", ["sync", "async"])


def reserve(door: str, manager: BudgetManager, *what: Any, **how: Any) -> Any:
    """Hold at one of the two doors."""
    if door == "sync":
        return manager.reserve(*what, **how)
    return asyncio.run(manager.areserve(*what, **how))._hold


class Time:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Time:
    """Return the manager's clock."""
    return Time()


@pytest.fixture
def manager(clock: Time) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager(clock=clock)
    manager.register_agent("a", max_tokens=1_000)
    return manager


@both_doors
def test_no_call_goes_out_on_a_hold_that_expired(
    manager: BudgetManager, clock: Time, door: str
) -> None:
    """Its budget is another call's by now; the error says what happened and what helps."""
    reserve(door, manager, "a", 900, key="k", ttl_s=10)
    clock.now += 11
    other = reserve(door, manager, "a", 900)
    with pytest.raises(HoldResolvedError, match=r"key 'k' .* agent 'a' .*a new key"):
        reserve(door, manager, "a", 900, key="k", ttl_s=10)
    assert manager.accounts()["a"].held == 900
    assert isinstance(manager.resolve("k"), Granted)  # that is still what came of it
    other.settle(900)


@both_doors
@pytest.mark.parametrize("end", ["settle", "void"])
def test_no_call_goes_out_on_a_hold_that_was_ended(
    manager: BudgetManager, door: str, end: str
) -> None:
    """Whichever way it was ended."""
    first = reserve(door, manager, "a", 900, key="k")
    first.void() if end == "void" else first.settle(7)
    with pytest.raises(HoldResolvedError, match="'k'"):
        reserve(door, manager, "a", 900, key="k")
    assert manager.accounts()["a"].held == 0


@both_doors
def test_an_open_hold_is_found_again_and_its_limit_counts_anew(
    manager: BudgetManager, clock: Time, door: str
) -> None:
    """So that whoever asks again has as much time as the first."""
    first = reserve(door, manager, "a", 900, key="k", ttl_s=10)
    clock.now += 8
    again = reserve(door, manager, "a", 900, key="k", ttl_s=10)
    assert (again.hold_id, again.expires_at) == (first.hold_id, 1_018.0)
    clock.now += 8
    with pytest.raises(BudgetExceededError):
        reserve(door, manager, "a", 900)
    again.settle(5)
    assert manager.accounts()["a"].consumed == 5
