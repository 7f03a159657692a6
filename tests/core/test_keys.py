"""What a key that is used again may and may not bring: the first answer, never a second call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.books import RESOLVED_HOLDS_MAX
from tbcontracts.commands import Granted, Reserve, Void
from tbcontracts.errors import HoldResolvedError
from tbcontracts.ids import new_id

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


# --- holds that the books have forgotten ------------------------------------------------------------


def end(door: str, hold: Any, how: str, *what: Any, **terms: Any) -> Any:
    """End a hold at one of the two doors."""
    if door == "sync":
        return getattr(hold, how)(*what, **terms)
    return asyncio.run(getattr(hold, f"a{how}")(*what, **terms))


def forget(manager: BudgetManager) -> None:
    """End so many other holds that the books forget the ones before."""
    for _ in range(RESOLVED_HOLDS_MAX + 1):
        manager.apply_to("default", Reserve("a", 0, hold_id := new_id()))
        manager.apply_to("default", Void(hold_id))


@both_doors
def test_a_hold_knows_how_it_ended_when_the_books_have_forgotten(
    manager: BudgetManager, door: str
) -> None:
    """The same ending is answered as at first, another one is an error; neither is posted."""
    settled, voided = (reserve(door, manager, "a", 100) for _ in range(2))
    first = end(door, settled, "settle", Usage(input_tokens=50))
    end(door, voided, "void")
    forget(manager)
    assert end(door, settled, "settle", Usage(input_tokens=50)) == first
    end(door, voided, "void")
    for hold, how, what in (
        (settled, "settle", (51,)),
        (settled, "void", ()),
        (voided, "settle", (5,)),
    ):
        with pytest.raises(HoldResolvedError, match=f"{hold.hold_id}.* before"):
            end(door, hold, how, *what)
    assert manager.accounts()["a"].consumed == 50


@both_doors
def test_an_estimate_for_now_is_no_ending(manager: BudgetManager, door: str) -> None:
    """What is settled for now can be settled otherwise, and by the same amount for good."""
    holds = [reserve(door, manager, "a", 100) for _ in range(3)]
    for hold in holds:
        end(door, hold, "settle", 40, final=False)
    end(door, holds[0], "settle", 40)
    end(door, holds[1], "settle", 30)
    end(door, holds[2], "void")
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (70, 0, 0)
