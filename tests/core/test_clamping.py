"""How long an answer may be: the rule, and what it is told of the books."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.clamping import (
    LONGEST_ANSWER,
    Left,
    Need,
    aoutput_cap,
    check_floor,
    clamp,
    output_cap,
    what_is_left,
)
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize


def shape(input_tokens: int = 100, **facts: Any) -> CallShape:
    """Return a call with an input of this size."""
    return CallShape(RequestSize(input_tokens, 4 * input_tokens), **facts)


@pytest.mark.parametrize(
    ("cap", "reachable", "expected"),
    [
        (500, 10_000, 500),  # fits: it stays
        (500, 600, 500),  # fits exactly
        (500, 599, 499),  # is lowered to what is left
        (500, 164, 64),  # the shortest that is worth it
        (500, 163, 64),  # below that it does not fit, and the books refuse it
        (500, 0, 64),
        (10, 10_000, 10),  # never raised, not even to the floor
        (10, 50, 10),
    ],
)
def test_a_cap_is_lowered_never_raised(cap: int, reachable: int, expected: int) -> None:
    """The cap that a call has is lowered to what can be reached."""
    assert clamp(Need(100, cap, 0), Left(0, reachable)) == expected


@pytest.mark.parametrize(
    ("own", "reachable", "expected"),
    [
        (9_000, 9_000, None),  # more than any answer needs: the call stays as it is
        (2_100, 2_100, 2_000),  # may be passed by the answer
        (2_100, 90_000, 2_000),  # what others could lend is left to them
        (0, 90_000, 300),  # except for what such a call usually needs
        (0, 250, 150),
        (0, 120, 64),
    ],
)
def test_a_call_without_a_cap_gets_one_near_the_limit(
    own: int, reachable: int, expected: int | None
) -> None:
    """It may use all that its agent has of its own, and of others' only the usual."""
    assert clamp(Need(100, None, 300), Left(own, reachable)) == expected


def test_a_strict_call_never_goes_without_a_cap() -> None:
    """Where nothing else bounds the answer, the model's longest does."""
    rich = Left(10**6, 10**6)
    assert clamp(Need(100, None, 300, must_have=True), rich) == LONGEST_ANSWER
    assert clamp(Need(100, None, 300, must_have=True), rich, longest=16_384) == 16_384


def test_choices_share_what_is_left() -> None:
    """Each of n answers may be as long as the cap."""
    assert clamp(Need(100, 500, 0, choices=3), Left(0, 1_000)) == 300
    assert clamp(Need(100, None, 0, choices=3), Left(1_000, 1_000)) == 300


def test_what_is_left_counts_pool_and_donors_and_keeps_the_reserve() -> None:
    """What a hold could reach is what the books themselves say, and asking leaves no trace."""
    manager = BudgetManager()
    manager.register_agent("a", priority=2, max_tokens=1_000, on_exceeded="end")
    manager.register_agent("donor", priority=1, max_tokens=500)
    manager.register_agent("above", priority=3, max_tokens=500)
    manager.top_up(None, 30)
    before = manager.journal()
    assert what_is_left(manager, "a") == Left(900, 900 + 30 + 450)
    with manager.closing("a"):
        assert what_is_left(manager, "a") == Left(1_000, 1_000 + 30 + 450)
    assert manager.journal() == before
    assert manager.accounts()["a"].denials == 0
    manager.record_usage("a", 950)
    assert what_is_left(manager, "a") == Left(-50, 430)


def test_an_outer_budget_limits_what_is_left() -> None:
    """Where each hold is also one on a parent's agent, the smaller of the two counts."""
    month = BudgetManager()
    month.register_agent("team", max_tokens=700)
    manager = BudgetManager().within(month, agent="team")
    manager.register_agent("a", max_tokens=1_000)
    assert what_is_left(manager, "a") == Left(700, 700)
    assert output_cap(manager, "a", shape(100, output_cap=2_000)) == 600


def test_nothing_is_clamped_where_budget_does_not_decide() -> None:
    """An account without a contract, observe mode, a closed scope, work that is good enough."""
    manager = BudgetManager(enforcement="observe")
    manager.register_agent("a", max_tokens=200)
    assert output_cap(manager, "a", shape(output_cap=500)) is None
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=200, confidence_threshold=0.5)
    with pytest.warns(UserWarning, match="no contract"):
        assert output_cap(manager, "stranger", shape(output_cap=500)) is None
    assert output_cap(manager, "a", shape(output_cap=500)) == 100
    manager.report_confidence("a", 0.9)
    assert output_cap(manager, "a", shape(output_cap=500)) is None
    manager.reset_confidence("a")
    manager.close_scope()
    assert output_cap(manager, "a", shape(output_cap=500)) is None


def test_the_contracts_cap_counts_too() -> None:
    """`max_output_tokens` of a contract is sent, where the call has no lower one."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100_000, max_output_tokens=250)
    assert output_cap(manager, "a", shape()) == 250
    assert output_cap(manager, "a", shape(output_cap=200)) == 200
    assert output_cap(manager, "a", shape(output_cap=900)) == 250


def test_a_strict_call_is_clamped_by_the_bound_of_its_input() -> None:
    """In strict mode the input counts as what it cannot pass."""
    manager = BudgetManager(enforcement="strict")
    manager.register_agent("a", max_tokens=1_000)
    assert output_cap(manager, "a", shape(100, output_cap=5_000)) == 600
    assert output_cap(manager, "a", CallShape(RequestSize(100, None))) is None


@pytest.mark.parametrize("enforcement", ["expected", "strict"])
def test_a_hold_of_the_clamped_size_fits_exactly(enforcement: str) -> None:
    """What the rule says and what the gate holds are the same number."""
    manager = BudgetManager(enforcement=enforcement)
    manager.register_agent("a", max_tokens=1_000)
    manager.register_agent("donor", max_tokens=100)
    call = shape(50, output_cap=5_000)
    cap = output_cap(manager, "a", call)
    assert cap is not None
    with pytest.raises(BudgetExceededError):
        manager.begin_call("a", call._replace(output_cap=cap + 1))
    manager.begin_call("a", call._replace(output_cap=cap))
    assert manager.remaining("a") == 0


@pytest.mark.anyio
async def test_the_awaited_twin_says_the_same() -> None:
    """Both doors read the same books, through an outer budget too."""
    month = BudgetManager()
    month.register_agent("team", max_tokens=700)
    manager = BudgetManager().within(month, agent="team")
    manager.register_agent("a", max_tokens=1_000)
    for call in (shape(output_cap=5_000), shape()):
        assert await aoutput_cap(manager, "a", call) == output_cap(manager, "a", call) == 600


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (True, TypeError), (1.5, ValueError)]
)
def test_a_floor_is_a_number_of_tokens(value: object, error: type[Exception]) -> None:
    """Nobody sends for an answer of no tokens."""
    with pytest.raises(error, match="min_output_tokens"):
        check_floor(value)
