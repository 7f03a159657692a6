"""What happens at the end of a budget, as integrations are told."""

from __future__ import annotations

import pytest

from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ConfidenceGateError,
    IdempotencyConflictError,
)
from tbcontracts.exhaustion import Policy, grant, policy_of, request_for, was_granted, what_now

REFUSAL = BudgetExceededError("a", 100, 40, scope="run-7")
CONFIDENT = ConfidenceGateError("a", 100, 40, score=0.9, threshold=0.8)
CLOSED = BudgetExceededError("a", 100, 40, code="scope_closed")


@pytest.mark.parametrize(
    ("value", "policy"),
    [
        ("raise", Policy("raise")),
        ("end", Policy("end")),
        ("ask", Policy("ask")),
        ({"fallback": "cheap"}, Policy("fallback", "cheap")),
    ],
)
def test_a_contract_says_what_to_do(value: object, policy: Policy) -> None:
    """`on_exceeded` is read in one place."""
    assert policy_of(BudgetContract("a", on_exceeded=value)) == policy  # type: ignore[arg-type]
    assert policy_of(None) == Policy("raise")


@pytest.mark.parametrize(
    ("kind", "refusal", "expected"),
    [
        ("raise", REFUSAL, "raise"),
        ("end", REFUSAL, "end"),
        ("ask", REFUSAL, "ask"),
        ("fallback", REFUSAL, "fallback"),
        ("end", CONFIDENT, "end"),
        ("ask", CONFIDENT, "raise"),
        ("fallback", CONFIDENT, "raise"),
        ("ask", CLOSED, "raise"),
        ("fallback", CLOSED, "fallback"),
    ],
)
def test_what_helps_depends_on_the_refusal(
    kind: str, refusal: BudgetExceededError, expected: str
) -> None:
    """More budget does not reopen a scope, and good enough work is not done again cheaper."""
    assert what_now(Policy(kind), refusal) == expected  # type: ignore[arg-type]


def test_a_grant_is_applied_once() -> None:
    """However often a grant is sent, the books of the request get it once."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=40)
    books = manager.scope("run-7")
    with pytest.raises(BudgetExceededError) as caught:
        books.reserve("a", 100)
    request = request_for(caught.value)
    assert (request.lacking, request.scope) == (60, "run-7")
    assert not was_granted(books, request.request_id)
    for _ in range(3):
        grant(manager, request, request.lacking)
    assert books.report()["a"]["allocated"] == 100
    assert was_granted(books, request.request_id)
    assert manager.report()["a"]["allocated"] == 40
    with pytest.raises(IdempotencyConflictError):
        grant(manager, request, 61)
    books.reserve("a", 100)


def test_an_overdraft_counts_in_what_is_lacking() -> None:
    """A grant of what is lacking is enough, also for an agent in overdraft."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=10)
    with pytest.raises(BudgetExceededError):
        manager.record_usage("a", 50)
    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve("a", 5)
    assert (caught.value.available, caught.value.lacking) == (0, 45)
    grant(manager, request_for(caught.value), 45)
    manager.reserve("a", 5)


def test_a_reserve_can_be_kept_where_the_contract_does_not_say_so() -> None:
    """A node that ends has a reserve to end with; inside its closing call it may be used."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100, min_reserve=40)
    with manager.keeping_reserve("a"):
        with pytest.raises(BudgetExceededError) as caught:
            manager.reserve("a", 70)
        assert caught.value.code == "reserve_kept"
        with manager.closing("a"):
            manager.reserve("a", 70).void()
        with pytest.raises(BudgetExceededError):
            manager.reserve("a", 70)
    manager.reserve("a", 70)
