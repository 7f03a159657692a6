"""The three modes: what is refused, what is only written down, and what has to have a bound."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager, UnknownAgentError, Usage
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize


def pair(**settings: Any) -> BudgetManager:
    """Return a manager with one agent that matters and one that could lend."""
    manager = BudgetManager(**settings)
    manager.register_agent("a", priority=2, max_tokens=1_000, confidence_threshold=0.9)
    manager.register_agent("lender", max_tokens=1_000)
    return manager


def text(tokens: int, **more: Any) -> CallShape:
    """Return the shape of a call of text: its bound is four times what is expected."""
    return CallShape(RequestSize(tokens, 4 * tokens), **more)


# --- observe --------------------------------------------------------------------------------------


def test_observed_calls_are_never_refused() -> None:
    """Budget, gate, closed scope, reserve kept, unknown agent of a call: all are let through."""
    manager = pair(enforcement="observe", unattributed="deny")
    manager.register_agent("soft", max_tokens=1_000, min_reserve=900, on_exceeded="end")
    assert manager.reserve("a", 50_000).would_deny
    manager.report_confidence("a", 0.95)
    assert manager.reserve("a", 1).would_deny
    assert manager.reserve("soft", 1_400).would_deny
    call = manager.begin_call("nobody", text(10))
    call.end(Ending(Usage(input_tokens=10)))
    manager.close_scope()
    assert manager.reserve("lender", 1).would_deny
    denied = [e.facts["code"] for e in manager.journal() if e.kind == "would_deny"]
    assert denied == ["budget_exceeded", "confident", "reserve_kept", "scope_closed"]
    assert manager.accounts()["nobody"].consumed == 10


def test_an_observed_hold_that_does_not_fit_moves_nothing() -> None:
    """Neither when it is taken nor when it is settled; one that fits is a hold like any other."""
    manager = pair(enforcement="observe")
    hold = manager.reserve("a", 50_000)
    assert (hold.moves, manager.accounts()["a"].held) == ((), 0)
    hold.settle(1_700)
    assert manager.remaining("a") == -700
    assert manager.remaining("lender") == 1_000
    fits = manager.reserve("lender", 100)
    assert not fits.would_deny
    assert manager.accounts()["lender"].held == 100


def test_observed_usage_is_not_raised() -> None:
    """`record_usage` says nothing of an overdraft, and the function of `govern` runs."""
    manager = pair(enforcement="observe")
    manager.record_usage("a", 5_000)
    assert manager.accounts()["a"].overdraft > 0
    assert manager.govern("a")(lambda: "ran")() == "ran"


def test_the_report_says_that_calls_were_let_through() -> None:
    """What would have been refused was not, and what is overdrawn stops nobody."""
    printed = io.StringIO()
    manager = BudgetManager(enforcement="observe")
    manager.register_agent("a", max_tokens=100)
    manager.reserve("a", 150).settle(150)
    manager.print_report(printed)
    lines = printed.getvalue().splitlines()
    overdrawn = (
        "a is overdrawn by 50; its next call would be refused if this were not observe mode."
    )
    assert overdrawn in lines
    said = "  a: a call of 150 would have been refused (budget exceeded; 100 could be reached)"
    assert said in lines
    assert manager.reserve("a", 1).tokens == 1


def test_mistakes_of_the_programmer_raise_in_observe_mode_too() -> None:
    """A name without a contract, a number that is none."""
    manager = pair(enforcement="observe")
    with pytest.raises(UnknownAgentError):
        manager.reserve("nobody", 1)
    with pytest.raises(ValueError, match="between 0 and"):
        manager.reserve("a", -1)


# --- expected -------------------------------------------------------------------------------------


def test_an_overrun_is_at_most_what_was_used_beyond_the_holds() -> None:
    """Three calls in flight, each larger than held: the rest is overdraft and blocks the next."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=900)
    holds = [manager.reserve("a", 300) for _ in range(3)]
    for hold in holds:
        hold.settle(400)
    assert manager.accounts()["a"].overdraft == 3 * (400 - 300)
    with pytest.raises(BudgetExceededError):
        manager.reserve("a", 1)


def test_an_overrun_is_covered_as_far_as_pool_and_donors_reach() -> None:
    """First the pool, then lenders above their reserve; what is left is overdraft."""
    manager = pair()
    manager.top_up(None, 50)
    posted = manager.reserve("a", 1_000).settle(2_000)
    assert [(move.donor, move.amount) for move in posted.moves] == [(None, 50), ("lender", 900)]
    assert posted.overdraft == 50


# --- strict ---------------------------------------------------------------------------------------


def strict() -> BudgetManager:
    """Return a manager that admits only what has a bound."""
    manager = BudgetManager(enforcement="strict")
    manager.register_agent("a", max_tokens=5_000)
    manager.register_agent("capped", max_tokens=5_000, max_output_tokens=100)
    return manager


@pytest.mark.parametrize(
    ("agent", "shape", "held"),
    [
        ("a", text(100, output_cap=50), 450),
        ("a", text(100, output_cap=50, choices=3), 550),
        ("capped", text(100), 500),
        ("capped", text(100, choices=2), 600),
    ],
)
def test_a_strict_hold_is_an_upper_bound(agent: str, shape: CallShape, held: int) -> None:
    """The bound of the input, and as often as answers are asked for the cap of the output."""
    manager = strict()
    manager.begin_call(agent, shape)
    assert manager.accounts()[agent].held == held


@pytest.mark.parametrize(
    ("agent", "shape", "code", "remedy"),
    [
        ("a", text(100), "unbounded", "max_tokens on the model, or max_output_tokens"),
        ("a", CallShape(RequestSize(100, None), 50), "unbounded", 'enforcement="expected"'),
        ("nobody", text(100, output_cap=50), "unattributed", "register_agent('nobody'"),
    ],
)
def test_what_has_no_bound_is_refused(agent: str, shape: CallShape, code: str, remedy: str) -> None:
    """No cap, images, nobody who answers for it: refused with the remedy, and on the books."""
    manager = strict()
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call(agent, shape)
    assert refused.value.code == code
    assert remedy in str(refused.value)
    assert [e.facts["code"] for e in manager.journal() if e.kind == "denied"] == [code]
    assert all(account.held == 0 for account in manager.accounts().values())


def test_a_bound_that_the_provider_broke_is_posted_and_marked() -> None:
    """The truth is on the books, says so, and blocks the agent."""
    manager = strict()
    call = manager.begin_call("a", text(100, output_cap=50))
    call.end(Ending(Usage(input_tokens=100, output_tokens=20_000)))
    assert manager.accounts()["a"].consumed == 20_100
    assert manager.journal()[-1].facts["bound_broken"] is True
    with pytest.raises(BudgetExceededError):
        manager.begin_call("a", text(1, output_cap=1))


def test_a_contract_can_answer_for_everybody() -> None:
    """With a contract for them, calls of names that nobody knows are under it in strict mode."""
    manager = BudgetManager(
        enforcement="strict", unattributed=BudgetContract("rest", max_tokens=1_000)
    )
    manager.begin_call("nobody", text(100, output_cap=50))
    manager.begin_call(None, text(100, output_cap=50))
    assert manager.accounts()["rest"].held == 900
