"""Weights and sums of usage: exact, never below nothing, and refused where they are unknown."""

from __future__ import annotations

import pytest

from tbcontracts import BudgetManager, Usage
from tbcontracts.usage import check_count


def test_weights() -> None:
    """`count` decides what a bucket takes of a budget; fractions are rounded up."""
    usage = Usage(input_tokens=100, output_tokens=10, cached_input_tokens=60, reasoning_tokens=4)
    assert usage.weigh() == 110
    assert usage.weigh("uncached") == 50
    assert usage.weigh({"cached_input": 0.1}) == 56
    assert usage.weigh({"output": 4, "reasoning": 0}) == 124
    assert usage.weigh({"input": 0, "output": 0.05}) == 1


def test_weights_are_exact() -> None:
    """A tenth is a tenth: binary fractions do not cost a token more, or less."""
    assert Usage(input_tokens=10).weigh({"input": 0.1}) == 1
    assert Usage(input_tokens=1_000_000_000_000).weigh({"input": 0.3}) == 300_000_000_000
    assert Usage(input_tokens=3).weigh({"input": 1 / 3}) == 1
    assert Usage(output_tokens=1).weigh({"output": 1e-9}) == 1
    assert Usage().weigh({"input": 5}) == 0


def test_parts_larger_than_their_whole_never_weigh_less_than_nothing() -> None:
    """A usage made by hand may contradict itself; it still takes something of the budget."""
    usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=50, reasoning_tokens=40)
    assert usage.weigh("uncached") == 5
    assert usage.weigh({"cached_input": 0.1}) == 45
    assert usage.weigh({"reasoning": 2}) == 130


def test_what_weighs_more_than_any_budget_can_still_be_posted() -> None:
    """The largest usage at the largest weight stays a number that the books take: never lost."""
    largest = Usage(input_tokens=2**40, output_tokens=2**40)
    for count in ("total", "uncached", {"output": 1_000_000}):
        assert largest.weigh(check_count(count)) == 2**40
    assert (largest + largest).input_tokens == 2**40
    manager = BudgetManager(count={"output": 1_000_000})
    manager.register_agent("writer", max_tokens=100)
    hold = manager.reserve("writer", 50)
    assert hold.settle(Usage(output_tokens=2**40)).amount == 2**40
    assert manager.accounts()["writer"].overdraft == 2**40 - 100


@pytest.mark.parametrize(
    "count",
    [
        "all",
        {"inputs": 1},
        {"input": -1},
        {"input": float("nan")},
        3,
        {"input": "1"},
        {"input": None},
        {"input": True},
        {1: 2},
        {"input": 10**7},
        {"input": 10**400},
    ],
)
def test_unknown_counts_are_refused(count: object) -> None:
    """A way to count that does not exist is an error at the door, with the ones that do."""
    with pytest.raises(ValueError, match="count"):
        check_count(count)


def test_sum_is_measured_only_if_all_parts_are() -> None:
    """Usages add up bucket by bucket; one estimate makes the sum an estimate."""
    measured = Usage(input_tokens=3, output_tokens=4)
    assert (measured + measured).measured
    total = measured + Usage.estimated(10, 20)
    assert (total.input_tokens, total.output_tokens, total.measured) == (13, 24, False)


@pytest.mark.parametrize("bad", [-1, 2**41, True, 1.5, "7"])
def test_buckets_are_checked(bad: object) -> None:
    """A usage made by hand has whole, bounded numbers."""
    with pytest.raises(ValueError, match="input_tokens must be a whole number"):
        Usage(input_tokens=bad)  # type: ignore[arg-type]
