"""Sums of money at the doors: exact or refused, never mixed with tokens, said in their unit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbcontracts import BudgetContract, BudgetManager, Usage
from tbcontracts.checks import AMOUNT_MAX, as_sentence
from tbcontracts.errors import ConfigurationError, ContractConflictError
from tbcontracts.money import (
    amount_in,
    as_code,
    as_decimal,
    figure,
    in_dollars,
    micro_usd,
    plural,
    said,
)

PRICES = {"m": {"input": 1, "output": 2}}


def in_usd(**settings: Any) -> BudgetManager:
    """Return a manager in dollars with one agent."""
    manager = BudgetManager(unit="usd", **{"prices": PRICES, **settings})
    manager.register_agent("a", max_usd=Decimal("2.50"))
    return manager


@given(st.integers(0, AMOUNT_MAX))
def test_dollars_and_micro_dollars_are_the_same_sum(amount: int) -> None:
    """There and back, as a number, as text and as a caller writes it."""
    assert micro_usd(as_decimal(amount), "it") == amount
    assert micro_usd(in_dollars(amount).replace("$", "").replace(",", ""), "it") == amount
    assert eval(as_code(amount, "usd"), {"Decimal": Decimal}) == as_decimal(amount)


def test_amounts_are_said_in_their_unit() -> None:
    """With at least two places, and as many as there are."""
    assert [in_dollars(n) for n in (0, 1, 10_000, 2_500_000, -12_340, 1_234_567_890_000)] == [
        "$0.00",
        "$0.000001",
        "$0.01",
        "$2.50",
        "-$0.01234",
        "$1,234,567.89",
    ]
    assert (said(12_300, "tokens"), said(12_300, "usd")) == ("12,300 tokens", "$0.0123")
    assert (figure(12_300, "tokens"), as_code(12_300, "tokens")) == ("12,300", "12300")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (0.02, TypeError, r'Decimal\("0.02"\)'),
        (1.0, TypeError, "float"),
        (Decimal("0.0000001"), ValueError, "six decimal places"),
        (Decimal(-1), ValueError, "between"),
        (Decimal("nan"), ValueError, "between"),
        (Decimal("inf"), ValueError, "between"),
        (Decimal(10**9), ValueError, "between"),
        (-1, ValueError, "between"),
        (True, TypeError, "whole number"),
        ("0.02", TypeError, "are a Decimal"),
        (None, TypeError, "whole number"),
    ],
)
def test_bad_sums_are_refused_before_anything_is_written(
    value: Any, error: type[Exception], words: str
) -> None:
    """At every door."""
    manager = in_usd()
    hold = manager.reserve("a", 5)
    before = manager.statement()
    for door in (
        lambda: manager.reserve("a", value),
        lambda: manager.record_usage("a", value),
        lambda: manager.top_up("a", value),
        lambda: manager.top_up(None, value),
        lambda: hold.settle(value),
    ):
        with pytest.raises(error, match=words):
            door()
    assert manager.statement() == before


def test_a_whole_number_is_micro_dollars_and_a_decimal_is_dollars() -> None:
    """At every door the same two."""
    manager = in_usd()
    manager.reserve("a", Decimal("0.5")).settle(Decimal("0.25"))
    manager.reserve("a", 500_000).settle(250_000)
    manager.record_usage("a", Decimal("0.000001"))
    manager.record_usage("a", 1)
    manager.top_up("a", Decimal(1))
    manager.top_up("a", 1_000_000)
    assert manager.report() == {
        "a": {"allocated": 4_500_000, "consumed": 500_002, "remaining": 3_999_998}
    }
    assert manager.accounts()["a"].cost_micro_usd == 500_002


def test_a_decimal_is_refused_where_tokens_are_counted() -> None:
    """It would be dollars, and nobody knows how many tokens these are."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    hold = manager.reserve("a", 5)
    for door in (manager.reserve, manager.record_usage, manager.top_up):
        with pytest.raises(TypeError, match='unit="usd"'):
            door("a", Decimal("0.02"))
    with pytest.raises(TypeError, match='unit="usd"'):
        hold.settle(Decimal(1))
    with pytest.raises(TypeError, match="tokens"):
        amount_in(Decimal(1), "tokens", "it")


def test_a_contract_in_dollars() -> None:
    """Its budget is a sum, its reserve a tenth of it, and it says so."""
    contract = BudgetContract.in_usd("a", max_usd=Decimal("2.50"), priority=3)
    assert (contract.max_tokens, contract.min_reserve, contract.unit) == (2_500_000, 250_000, "usd")
    assert contract.max_usd == Decimal("2.5")
    assert contract.said == "priority 3, max_usd $2.50, min_reserve_usd $0.25"
    assert BudgetContract("a", max_tokens=5).max_usd is None
    assert BudgetContract.in_usd("a", max_usd="2.50", min_reserve_usd=1).reserve == 1_000_000
    larger = contract.changed(max_usd="5")
    assert (larger.max_tokens, larger.min_reserve, larger.priority) == (5_000_000, 500_000, 3)
    with pytest.raises(ValueError, match=r"min_reserve_usd.*at most its max_usd \(\$1.00\)"):
        BudgetContract.in_usd("a", max_usd=1, min_reserve_usd=2)
    with pytest.raises(TypeError, match="float"):
        BudgetContract.in_usd("a", max_usd=0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give max_usd"):
        contract.changed(max_tokens=5)
    with pytest.raises(ValueError, match="give max_tokens"):
        BudgetContract("a", max_tokens=5).changed(max_usd=1)
    with pytest.raises(ValueError, match="is in 'tokens', and these are in 'usd'"):
        contract.changed(unit="tokens")
    with pytest.raises(ValueError, match="unit of agent 'a'"):
        BudgetContract("a", unit="eur")


def test_contracts_of_another_unit_are_refused_at_set_up() -> None:
    """By the manager, whichever way they come."""
    dollars, tokens = BudgetManager(unit="usd", prices=PRICES), BudgetManager()
    with pytest.raises(ValueError, match="give max_usd"):
        dollars.register_agent("a", max_tokens=5)
    with pytest.raises(ConfigurationError, match="needs a budget in dollars"):
        dollars.register_agent("a")
    with pytest.raises(ConfigurationError, match="is in tokens, and this manager counts US doll"):
        dollars.register(BudgetContract("a", max_tokens=5))
    with pytest.raises(ValueError, match="give max_tokens"):
        tokens.register_agent("a", max_usd=1)
    with pytest.raises(ConfigurationError, match="is in US dollars, and this manager counts tok"):
        tokens.register(BudgetContract.in_usd("a", max_usd=1))
    with pytest.raises(ConfigurationError, match="is in US dollars, and this manager counts tok"):
        BudgetManager(unattributed=BudgetContract.in_usd("a", max_usd=1))
    assert not dollars.contracts
    assert not tokens.contracts


def test_a_contract_in_dollars_is_changed_in_dollars() -> None:
    """And registered again it is the same one."""
    manager = in_usd()
    assert manager.change_contract("a", max_usd=Decimal(5)).max_usd == 5
    assert manager.remaining("a") == 5_000_000
    with pytest.raises(ValueError, match="give max_usd"):
        manager.change_contract("a", max_tokens=5)
    manager.register_agent("a", max_usd=5)
    with pytest.raises(ContractConflictError):
        manager.register_agent("a", max_usd=6)


def test_settings_that_do_not_go_with_dollars() -> None:
    """Weights are prices there; a manager is within one of its own unit."""
    with pytest.raises(ConfigurationError, match="weigh them by their price"):
        BudgetManager(unit="usd", count="uncached", prices=PRICES)
    tokens = BudgetManager()
    tokens.register_agent("month", max_tokens=100)
    with pytest.raises(ConfigurationError, match=r"US dollars, and the one.*counts tokens"):
        in_usd().within(tokens, agent="month")


def test_dollars_within_dollars() -> None:
    """Each hold and charge is also one above, of the same sum."""
    month, run = in_usd(), in_usd()
    inner = run.within(month, agent="a")
    inner.reserve("a", Decimal("0.5")).settle(Usage(input_tokens=300_000, model="m"))
    inner.record_usage("a", Decimal("0.1"))
    assert month.accounts()["a"].consumed == run.accounts()["a"].consumed == 400_000


def test_usage_without_a_price_is_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    """Before anything is written, with what to give instead."""
    manager = in_usd()
    before = manager.statement()
    for usage in (Usage(input_tokens=5), Usage(input_tokens=5, model="other"), Usage.unknown("?")):
        with pytest.raises(ValueError, match=r"no known price.*Decimal\(.*cost_micro_usd.*prices"):
            manager.record_usage("a", usage)
    assert manager.statement() == before
    manager.record_usage("a", Usage(input_tokens=5, model="m"))
    manager.record_usage("a", Usage(input_tokens=5, cost_micro_usd=100))
    assert manager.accounts()["a"].consumed == 105
    assert not caplog.records


def test_a_source_that_fails_is_one_that_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """What was used is paid for: a broken price list must not lose it."""

    class Broken:
        def price_of(self, model: str, provider: str | None = None) -> None:
            raise RuntimeError(model)

    manager = in_usd(prices=Broken())
    manager.reserve("a", 700).settle(Usage(input_tokens=5, model="m"))
    assert manager.accounts()["a"].consumed == 700
    assert manager.accounts()["a"].unpriced_tokens == 5
    assert "price of model 'm'" in caplog.text


def test_one_is_no_plural() -> None:
    """Neither of tokens nor of anything else."""
    assert [said(amount, "tokens") for amount in (0, 1, 2, 1_000)] == [
        "0 tokens",
        "1 token",
        "2 tokens",
        "1,000 tokens",
    ]
    assert (plural(1, "entry", "entries"), plural(2, "entry", "entries")) == (
        "1 entry",
        "2 entries",
    )


def test_what_others_say_ends_once() -> None:
    """With its own mark, or with ours."""
    for text, sentence in (
        ("lost", "lost."),
        ("lost.", "lost."),
        ("is it\n there?", "is it there?"),
        ("no!", "no!"),
    ):
        assert as_sentence(text) == sentence
