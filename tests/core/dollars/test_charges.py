"""Charges in dollars: the model that answered, estimates, cancelled calls, governed functions."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from tests.core.dollars.prices import PRICES, SHAPE, governed

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.endings import Ending


def test_the_price_of_the_model_that_answered_counts() -> None:
    """A router may have sent it elsewhere; where nobody knows that one, what was asked for does."""
    manager = governed()
    for model, cost in (("cheap", 20), ("m", 120), (None, 120), ("unheard of", 120), ("free", 0)):
        call = manager.begin_call("a", SHAPE)
        call.end(Ending(Usage(input_tokens=10, output_tokens=10, model=model)))
        entry = manager.journal()[-1]
        assert entry.amount == cost
        assert entry.facts["cost_micro_usd"] == cost
        assert entry.facts["model"] == (model or "m")
    assert manager.accounts()["a"].unpriced_tokens == 0


def test_what_nobody_can_price_is_charged_the_whole_hold() -> None:
    """By hand, without a model: marked, and never 0."""
    manager = governed()
    manager.reserve("a", Decimal("0.01")).settle(Usage(input_tokens=30, output_tokens=12))
    account = manager.accounts()["a"]
    assert (account.consumed, account.cost_micro_usd, account.unpriced_tokens) == (10_000,) * 2 + (
        42,
    )
    assert manager.journal()[-1].facts["unpriced"] is True
    manager.reserve("a", Decimal("0.01")).settle(Usage.unknown({"tokens": "?"}))
    assert manager.accounts()["a"].consumed == 20_000


def test_a_call_whose_output_nobody_saw_is_charged_its_whole_hold() -> None:
    """In strict mode too, where the hold is more than its tokens cost at their usual price."""
    for enforcement in ("expected", "strict"):
        manager = governed(enforcement=enforcement)
        call = manager.begin_call("a", SHAPE)
        held = call.hold.tokens
        call.end(Ending(error=TimeoutError()))
        account = manager.accounts()["a"]
        assert (account.consumed, account.unmeasured, account.held) == (held, held, 0)


def test_an_estimate_has_the_price_of_the_model_that_answered() -> None:
    """Usage that a broken stream named, and the model with it."""
    manager = governed()
    call = manager.begin_call("a", SHAPE)
    call.end(Ending(Usage.estimated(10, 10, model="cheap"), error=TimeoutError()))
    assert manager.accounts()["a"].consumed == manager.accounts()["a"].unmeasured == 20


def test_a_block_that_is_left_without_a_word_is_charged_its_hold() -> None:
    """And one whose request was refused by the server is not."""
    manager = governed()
    with pytest.raises(KeyError), manager.reserve("a", Decimal("0.01")):
        raise KeyError
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.input_tokens) == (10_000, 10_000, 0)

    async def left() -> None:
        async with await manager.areserve("a", Decimal("0.02")):
            pass

    asyncio.run(left())
    assert manager.accounts()["a"].consumed == 30_000


def test_a_cancelled_call_costs_its_input_and_the_truth_replaces_that_once() -> None:
    """A provisional charge is taken back whole, in dollars and in tokens with a price."""
    for manager in (governed(), BudgetManager(prices=PRICES)):
        if manager.settings.unit == "tokens":
            manager.register_agent("a", max_tokens=10_000)
        call = manager.begin_call("a", SHAPE)
        call.end(Ending(given_up=True))
        assert manager.accounts()["a"].cost_micro_usd == 200
        call.end(Ending(Usage(input_tokens=100, output_tokens=7)))
        account = manager.accounts()["a"]
        assert (account.cost_micro_usd, account.unpriced_tokens, account.unmeasured) == (270, 0, 0)


def test_a_governed_function_needs_its_model() -> None:
    """Without it nobody knows what it will cost: it is not called."""
    manager = governed()
    asked = []

    def ask(prompt: str) -> dict[str, Any]:
        asked.append(prompt)
        return {"usage": {"input_tokens": 10, "output_tokens": 5}}

    with pytest.raises(BudgetExceededError, match=r"names no model.*govern\(\.\.\., model="):
        manager.govern("a")(ask)("hello")
    assert asked == []
    manager.govern("a", model="m")(ask)("hello")
    assert manager.accounts()["a"].consumed == 70
    manager.govern("a", model="m", usage_fn=lambda _: 5)(ask)("hello")
    assert manager.accounts()["a"].consumed == 120, "tokens of output, at their price"
    manager.govern("a", model="m", usage_fn=lambda _: Decimal("0.001"))(ask)("hello")
    assert manager.accounts()["a"].consumed == 1_120


def test_usage_beside_the_call_of_a_governed_function_is_priced() -> None:
    """What a result reports beside what calls below it reported."""
    manager = governed()

    def ask() -> dict[str, Any]:
        call = manager.begin_call("a", SHAPE)
        call.end(Ending(Usage(input_tokens=10, output_tokens=5)))
        return {"usage": {"input_tokens": 1, "output_tokens": 1}}

    manager.govern("a", model="m")(ask)()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unpriced_tokens) == (70 + 12, 0, 0)


def test_a_larger_call_inside_grows_the_hold_by_dollars() -> None:
    """The inner layer sees the whole prompt, and the model."""
    manager = governed()

    def ask() -> None:
        call = manager.begin_call("a", SHAPE._replace(output_cap=20_000))
        assert manager.accounts()["a"].held == 200 + 200_000
        assert call.hold._tokens_in_all == 20_100
        call.end(Ending(Usage(input_tokens=100, output_tokens=1_000)))

    manager.govern("a", model="m")(ask)()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (10_200, 0)
