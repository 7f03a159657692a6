"""What is said in dollars: refusals, grants and reports."""

from __future__ import annotations

import asyncio
import io
from decimal import Decimal

import pytest
from tests.core.dollars.prices import PRICES, SHAPE, governed, text_of

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.exhaustion import grant, granted_amount, request_for


def test_refusals_are_said_in_dollars() -> None:
    """With the top-up as a caller writes it."""
    manager = governed("0.0006")
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call("a", SHAPE)
    assert str(refused.value) == (
        "Agent 'a' asked for $0.0007 (input plus output cap of the call); $0.0006 can be reached "
        "in scope 'default', counting its own, the pool's and what lower or equal priorities can "
        "lend. This one hold is more than its whole budget. What helps: "
        "manager.top_up('a', Decimal(\"0.0001\")), or max_usd of at least $0.0007 for 'a' "
        "(it has $0.0006)."
    )
    with pytest.raises(BudgetExceededError, match=r"used \$0.0009; it is on the books"):
        manager.record_usage("a", Decimal("0.0009"))
    with pytest.raises(BudgetExceededError, match=r"\$0.0003 is overdraft"):
        manager.reserve("a", 1)
    assert "a is overdrawn by $0.0003" in text_of(manager)


def test_a_grant_is_dollars() -> None:
    """As a number, or as the text that a form sends."""
    manager = governed("0.0006")
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call("a", SHAPE)
    request = request_for(refused.value)
    assert (request.unit, request.lacking) == ("usd", 100)
    grant(manager, request, Decimal("0.0001"))
    grant(manager, request, 100)
    manager.begin_call("a", SHAPE)
    assert granted_amount("$1,000.50", "usd") == granted_amount("1000.50", "usd") == 1_000_500_000
    assert granted_amount(Decimal("0.5"), "usd") == 500_000
    for bad in (0.5, "much", None, "-1"):
        with pytest.raises((TypeError, ValueError)):
            granted_amount(bad, "usd")
    with pytest.raises(TypeError):
        granted_amount("5", "tokens")


def test_the_report_of_dollars() -> None:
    """Ints of the unit for programs, dollars for people."""
    manager = governed("2.50")
    manager.reserve("a", Decimal("0.5")).settle(Usage(input_tokens=617_250, model="m"))
    manager.top_up(None, Decimal("0.25"))
    assert manager.report() == {
        "a": {"allocated": 2_500_000, "consumed": 1_234_500, "remaining": 1_265_500}
    }
    text = text_of(manager)
    assert "$2.50   $1.2345  $0.00    $1.2655" in text
    assert "Spent $1.2345 of $2.75; pool $0.25." in text
    assert "token" not in text
    assert manager.statement().unit == "usd"


def test_costs_of_budgets_in_tokens() -> None:
    """Known where the price is, "unknown" where it is not, never $0 for that."""
    manager = BudgetManager(prices=PRICES)
    for name in ("known", "unknown", "both", "idle"):
        manager.register_agent(name, max_tokens=10_000)
    manager.record_usage("known", Usage(input_tokens=1_000, output_tokens=10, model="m"))
    manager.record_usage("unknown", Usage(input_tokens=7, model="unheard of"))
    manager.record_usage("unknown", 5)
    manager.record_usage("both", Usage(input_tokens=100, model="m"))
    manager.record_usage("both", Usage(output_tokens=3))
    lines = {line.split()[0]: line for line in text_of(manager).splitlines() if line}
    assert lines["known"].endswith("$0.0021")
    assert lines["unknown"].endswith("unknown")
    assert lines["both"].endswith("$0.0002 + unknown")
    assert lines["idle"].endswith("$0.00")
    assert "It cost $0.0023 and what 15 tokens cost, whose price is unknown." in text_of(manager)


def test_without_prices_nothing_is_said_of_cost() -> None:
    """And nothing is 0: all tokens are without a price."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    manager.record_usage("a", Usage(input_tokens=10, model="gpt-4o"))
    account = manager.accounts()["a"]
    assert (account.cost_micro_usd, account.unpriced_tokens) == (0, 10)
    assert "$" not in text_of(manager)
    assert manager.journal()[-1].facts["model"] == "gpt-4o"


def test_a_cost_that_somebody_asked_for_is_unknown_not_missing() -> None:
    """With prices, of which none is the right one."""
    manager = BudgetManager(prices=PRICES)
    manager.register_agent("a", max_tokens=100)
    manager.record_usage("a", Usage(input_tokens=10, model="unheard of"))
    text = text_of(manager)
    assert "unknown" in text.splitlines()[4]
    assert "What it cost is unknown: 10 tokens have no price." in text
    out = io.StringIO()
    asyncio.run(manager.aprint_report(out))
    assert out.getvalue() == text
