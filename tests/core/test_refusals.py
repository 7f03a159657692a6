"""Every refusal says who, how much, what was left and what helps: what it names does help."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize
from tbcontracts.usage import Usage

SIZE = RequestSize(200, 800)


def refused(manager: BudgetManager, shape: CallShape) -> str:
    """Return the text of a refusal, after trying the top-up that it names."""
    with pytest.raises(BudgetExceededError) as caught:
        manager.begin_call("writer", shape)
    error, text = caught.value, str(caught.value)
    assert "'writer'" in text
    assert f"{error.requested:,} tokens" in text
    assert f"{error.available:,} can be reached in scope 'default'" in text
    helps = re.search(r"manager\.top_up\(('writer'), (\d+)\)", text)
    assert helps is not None
    name, tokens = ast.literal_eval(helps[1]), int(helps[2])
    assert tokens == error.lacking
    if tokens > 1:
        manager.top_up(name, tokens - 1)
        with pytest.raises(BudgetExceededError):
            manager.begin_call("writer", shape)
        manager.top_up(name, 1)
    manager.begin_call("writer", shape).end(Ending(unbilled=True))
    return text


def governed(max_tokens: int = 300, enforcement: str = "expected", **more: Any) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager(enforcement=enforcement)
    manager.register_agent("writer", max_tokens=max_tokens, **more)
    return manager


def test_the_budget_that_is_named_is_enough() -> None:
    """Also where some of it is used already: what is said to help does, and 1 less does not."""
    manager = governed(2_000, min_reserve=0)
    manager.record_usage("writer", 1_500)
    with pytest.raises(BudgetExceededError) as refusal:
        manager.reserve("writer", 100_000)
    assert "max_tokens of at least 101,500 for 'writer' (it has 2,000)" in str(refusal.value)
    manager.change_contract("writer", max_tokens=101_499)
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", 100_000)
    manager.change_contract("writer", max_tokens=101_500)
    manager.reserve("writer", 100_000).void()


def test_a_first_guess_says_that_it_is_one() -> None:
    """And that a cap replaces it."""
    text = refused(governed(210), CallShape(SIZE))
    assert "a first guess, as none of its answers is known yet" in text
    assert "more than its whole budget" in text
    assert "max_tokens of at least 226 for 'writer' (it has 210)" in text
    assert "max_output_tokens in the contract) replaces the guess" in text


def test_recent_answers_are_named_as_what_they_are() -> None:
    """The usual length of its answers makes the hold, and a cap makes it smaller."""
    manager = governed(2_500)
    for _ in range(5):
        call = manager.begin_call("writer", CallShape(RequestSize(10, 40), output_cap=300))
        call.end(Ending(Usage(input_tokens=10, output_tokens=300)))
    manager.reserve("writer", 500)
    text = refused(manager, CallShape(SIZE))
    assert "input plus what 95 % of its recent answers stayed within" in text
    assert "makes the hold smaller" in text
    assert "whole budget" not in text


@pytest.mark.parametrize(
    ("enforcement", "cap", "contract", "says", "helps"),
    [
        ("expected", 200, None, "(input plus output cap of the call)", "another scope"),
        ("expected", None, 200, "(input plus max_output_tokens of", "A lower max_output_tokens"),
        ("strict", 200, None, "input in bytes plus output cap", "A lower max_tokens on the model"),
        ("strict", None, 200, "input in bytes plus max_output", "A lower max_output_tokens"),
    ],
)
def test_caps_say_whose_they_are(
    enforcement: str, cap: int | None, contract: int | None, says: str, helps: str
) -> None:
    """What made the hold is what the reader can change."""
    manager = governed(1_010, enforcement, max_output_tokens=contract)
    manager.reserve("writer", 1_000)
    text = refused(manager, CallShape(SIZE, output_cap=cap))
    assert says in text
    assert helps in text or "max_tokens of at least" in text


def test_an_overdraft_is_said() -> None:
    """The top-up is larger than the call: the text says why."""
    manager = governed(100)
    call = manager.begin_call("writer", CallShape(RequestSize(10, 40), output_cap=50))
    call.end(Ending(Usage(input_tokens=10, output_tokens=400)))
    text = refused(manager, CallShape(RequestSize(10, 40), output_cap=50))
    assert "310 are overdraft, which is paid first" in text
    assert "manager.top_up('writer', 370)" in text


def test_a_reserve_that_is_kept_is_no_overdraft() -> None:
    """Under "end" it is left alone; an overdraft is what is used beyond the budget."""
    call = CallShape(RequestSize(10, 40), output_cap=490)
    manager = governed(1_000, min_reserve=300, on_exceeded="end")
    manager.record_usage("writer", 800)
    text = refused(manager, call)
    assert "Its reserve, 300, is kept for its closing call." in text
    assert "overdraft" not in text
    over = governed(1_000, min_reserve=300, on_exceeded="end")
    with pytest.raises(BudgetExceededError):
        over.record_usage("writer", 1_040)
    assert "closing call. 40 are overdraft, which is paid first." in refused(over, call)


def test_a_top_up_that_is_named_is_one_that_may_be() -> None:
    """An overdraft may be larger than any one amount."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=0)
    manager.reserve("a", 0).void()
    with pytest.raises(BudgetExceededError):
        manager.record_usage("a", 2**40)
    with pytest.raises(BudgetExceededError) as charged:
        manager.record_usage("a", 2**40)
    with pytest.raises(BudgetExceededError) as held:
        manager.reserve("a", 1)
    for error in (charged.value, held.value):
        assert f"top_up('a', {2**40}) repeatedly, {error.lacking:,} in all" in str(error)
    for _ in range(2):
        manager.top_up("a", 2**40)
    manager.top_up("a", 1)
    manager.reserve("a", 1)
