"""What a key that is used again may and may not bring: the first answer, never a second call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, IdempotencyConflictError, Usage
from tbcontracts.books import RESOLVED_HOLDS_MAX
from tbcontracts.commands import Granted, Reply, Reserve, Void
from tbcontracts.errors import HoldResolvedError
from tbcontracts.ids import new_id
from tbcontracts.stores.memory import MemoryStore

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


# --- holds that the books have forgotten ----------------------------------------------------------


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


# --- managers within managers ---------------------------------------------------------------------


def on_one_scope() -> tuple[BudgetManager, BudgetManager]:
    """Return a manager and one within it whose books are the very same."""
    store = MemoryStore()
    team, crew = BudgetManager(store=store), BudgetManager(store=store)
    team.register_agent("crew", max_tokens=1_000)
    crew.register_agent("boss", max_tokens=500)
    return team, crew.within(team, agent="crew")


def record(door: str, manager: BudgetManager, *what: Any, **how: Any) -> Any:
    """Charge at one of the two doors."""
    if door == "sync":
        return manager.record_usage(*what, **how)
    return asyncio.run(manager.arecord_usage(*what, **how))


@both_doors
def test_a_key_is_good_for_both_books_also_where_they_are_the_same(door: str) -> None:
    """A hold, a charge, and each of them again: one on each agent."""
    team, crew = on_one_scope()
    for _ in range(2):
        hold = reserve(door, crew, "boss", 400, key="k")
        record(door, crew, "boss", 30, key="charge")
    assert (team.accounts()["crew"].held, crew.accounts()["boss"].held) == (400, 400)
    end(door, hold, "settle", 70)
    for account in (team.accounts()["crew"], crew.accounts()["boss"]):
        assert (account.consumed, account.held) == (100, 0)
    with pytest.raises(HoldResolvedError, match="'k'"):
        reserve(door, crew, "boss", 400, key="k")
    with pytest.raises(IdempotencyConflictError, match="'k'"):
        reserve(door, crew, "boss", 401, key="k")
    assert team.accounts()["crew"].held == 0


@both_doors
def test_a_key_that_was_refused_inside_stays_refused(door: str) -> None:
    """It is given back outside and, once the refusal is forgotten, asked anew on both books."""
    now = [1_000.0]
    team, crew = (BudgetManager(clock=lambda: now[0]) for _ in range(2))
    team.register_agent("crew", max_tokens=1_000)
    crew.register_agent("boss", max_tokens=100)
    crew = crew.within(team, agent="crew")
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match="'boss'"):
            reserve(door, crew, "boss", 200, key="k")
        assert team.accounts()["crew"].held == 0
        crew.top_up("boss", 50)
    now[0] += 600
    reserve(door, crew, "boss", 200, key="k")
    assert (team.accounts()["crew"].held, crew.accounts()["boss"].held) == (200, 200)


@both_doors
@pytest.mark.parametrize("long", [False, True])
def test_a_key_of_one_run_is_not_that_of_another(door: str, long: bool) -> None:
    """Runs that count their steps alike each pay their own into the total above them."""
    charged, held = ("é" * 100, "ö" * 100) if long else ("step 1", "step 2")
    team = BudgetManager()
    team.register_agent("crew", max_tokens=1_000)
    for _ in range(2):
        crew = BudgetManager()
        crew.register_agent("boss", max_tokens=500)
        crew = crew.within(team, agent="crew")
        for books in (crew, crew.scope("other")):
            for _ in range(2):
                record(door, books, "boss", 10, key=charged)
                reserve(door, books, "boss", 100, key=held)
    account = team.accounts()["crew"]
    assert (account.consumed, account.held) == (40, 400)


class Quicker(MemoryStore):
    """A memory store where somebody else asks with the same key in the meantime."""

    other: Any = None

    def resolve(self, scope: str, key: str) -> Reply | None:
        """Return what came of a key, which then is no longer true."""
        reply = super().resolve(scope, key)
        if self.other is not None:
            other, self.other = self.other, None
            other()
        return reply


@both_doors
def test_two_with_one_key_at_the_same_time_have_one_hold(door: str) -> None:
    """Whoever comes second finds the first one's holds, on both books, and leaves none behind."""
    store, holds = Quicker(), []
    team, crew = BudgetManager(), BudgetManager(store=store)
    team.register_agent("crew", max_tokens=1_000)
    crew.register_agent("boss", max_tokens=500)
    crew = crew.within(team, agent="crew")
    store.other = lambda: holds.append(crew.reserve("boss", 300, key="k"))
    holds.append(reserve(door, crew, "boss", 300, key="k"))
    assert holds[0].hold_id == holds[1].hold_id
    assert (team.accounts()["crew"].held, crew.accounts()["boss"].held) == (300, 300)
    end(door, holds[1], "settle", 20)
    assert (team.accounts()["crew"].held, team.accounts()["crew"].consumed) == (0, 20)
