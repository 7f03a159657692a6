"""Holds in dollars: what a call holds, grows by and is capped at, and what is not sent."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from tests.core.dollars.prices import PRICES, SHAPE, governed, text_of

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.calls import MORE_TOKENS
from tbcontracts.clamping import aoutput_cap, output_cap
from tbcontracts.endings import Ending
from tbcontracts.model_price import ModelPrice, Rates
from tbcontracts.sizing import cold_start
from tbcontracts.tokens import RequestSize

TIERED = ModelPrice(1, (Rates(-1, 1, 1, 1, 1, 1), Rates(100, 5, 9, 5, 5, 9)))


def test_a_hold_is_what_input_and_answer_will_probably_cost() -> None:
    """The estimate of the input, and the output cap for each choice, at their prices."""
    manager = governed()
    call = manager.begin_call("a", SHAPE._replace(choices=3))
    assert call.hold.tokens == 100 * 2 + 3 * 50 * 10
    assert manager.accounts()["a"].held == call.hold.tokens
    assert "1,700" not in repr(call.hold)
    assert "$0.0017" in repr(call.hold)


def test_a_strict_hold_is_what_it_cannot_cost_more_than() -> None:
    """The bound of the input, as if all of it were written to a cache."""
    call = governed(enforcement="strict").begin_call("a", SHAPE)
    assert call.hold.tokens == 400 * 3 + 50 * 10


@pytest.mark.parametrize(("bound", "held"), [(100, 100 + 50), (101, 101 * 5 + 50 * 9)])
def test_a_strict_hold_uses_the_dearest_tier_that_its_bound_can_reach(
    bound: int, held: int
) -> None:
    """An estimate below the tier is no comfort."""
    manager = governed(enforcement="strict", prices={"m": TIERED})
    call = manager.begin_call("a", SHAPE._replace(size=RequestSize(10, bound)))
    assert call.hold.tokens == held


@pytest.mark.parametrize("model", [None, "unheard of"])
@pytest.mark.parametrize("enforcement", ["expected", "strict"])
def test_unknown_price_is_refused_before_it_is_sent(model: str | None, enforcement: str) -> None:
    """Never free: the error says what to do, and it is on the books."""
    manager = governed(enforcement=enforcement)
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call("a", SHAPE._replace(model=model))
    error = refused.value
    assert (error.code, error.unit, error.requested) == ("unknown_price", "usd", 0)
    assert "What helps" in str(error)
    if model is not None:
        assert 'prices={"unheard of": {"input": "0.15", "output": "0.60"}}' in str(error)
        assert "pip install" in str(error)
    else:
        assert 'model="..."' in str(error)
    account = manager.accounts()["a"]
    assert (account.denials, account.held, account.consumed) == (1, 0, 0)
    assert manager.journal()[-1].facts["code"] == "unknown_price"
    of = "" if model is None else f" of {model!r}"
    assert f"a: a call was refused (unknown price{of}; $1.00 could be" in text_of(manager)


@pytest.mark.parametrize("enforcement", ["expected", "strict"])
@pytest.mark.parametrize("rate", ["input", "output"])
def test_a_price_that_is_not_whole_says_so(rate: str, enforcement: str) -> None:
    """Nobody looks for a missing model where one of its two rates is missing."""
    manager = governed(enforcement=enforcement, prices={"m": {rate: "3"}})
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call("a", SHAPE)
    assert refused.value.code == "unknown_price"
    assert "The price of model 'm' is not whole: it needs dollars for its input" in str(
        refused.value
    )


def test_dollars_as_text_are_told_what_they_should_be() -> None:
    """A sum of money that is used is a Decimal, as one in a contract may be text."""
    with pytest.raises(TypeError, match=r"is the text '0.1'; dollars are a Decimal here"):
        governed().record_usage("a", "0.1")  # type: ignore[arg-type]


def test_a_tracked_call_without_a_price_is_refused_too() -> None:
    """It has no limit, but dollars that nobody knows cannot be counted."""
    manager = governed()
    with pytest.warns(UserWarning, match="no contract"), pytest.raises(BudgetExceededError):
        manager.begin_call("somebody", SHAPE._replace(model="unheard of"))


def test_observe_mode_records_an_unknown_price_and_lets_the_call_pass() -> None:
    """As would-deny; what it used is on the books as tokens without a price."""
    manager = governed(enforcement="observe")
    call = manager.begin_call("a", SHAPE._replace(model="unheard of"))
    assert [entry.kind for entry in manager.journal()[1:]] == ["would_deny", "held"]
    call.end(Ending(Usage(input_tokens=10, output_tokens=5)))
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.denials) == (0, 0, 1)
    assert (account.unpriced_tokens, account.input_tokens) == (15, 10)
    assert manager.journal()[-1].facts["unpriced"] is True
    assert "The price of 15 tokens is unknown" in text_of(manager)


def test_observe_mode_sees_it_awaited_as_well() -> None:
    """The awaited door does the same."""
    manager = governed(enforcement="observe")

    async def call() -> None:
        begun = await manager.abegin_call("a", SHAPE._replace(model=None))
        await begun.aend(Ending(unbilled=True))

    asyncio.run(call())
    assert [e.kind for e in manager.journal()[1:]] == ["would_deny", "held", "voided"]


def test_an_awaited_call_of_unknown_price_is_refused() -> None:
    """Before it is sent."""
    manager = governed()
    with pytest.raises(BudgetExceededError, match="is not known"):
        asyncio.run(manager.abegin_call("a", SHAPE._replace(model="unheard of")))


def test_an_answer_that_outgrows_its_hold_asks_for_dollars() -> None:
    """By what so many more tokens cost; all of it ends as one, and is counted once."""
    manager = governed(enforcement="strict")
    call = manager.begin_call("a", SHAPE._replace(size=RequestSize(10, 10)))
    assert call.hold.tokens == 30 + 500
    for _ in range(4):
        call.saw("word " * 50)
        call.keep_up()
    held = manager.accounts()["a"].held
    assert held == 530 + MORE_TOKENS * 10 + 1
    call.end(Ending(Usage(input_tokens=10, output_tokens=200)))
    account = manager.accounts()["a"]
    assert (account.consumed, account.cost_micro_usd, account.held) == (2_020, 2_020, 0)
    assert (account.input_tokens, account.output_tokens, account.unpriced_tokens) == (10, 200, 0)
    assert [entry.amount for entry in manager.journal() if entry.kind == "settled"] == [1_490, 530]


def test_an_answer_that_outgrows_its_hold_is_stopped_where_no_dollars_are_left() -> None:
    """And the error says it in dollars."""
    manager = governed("0.0006", enforcement="strict")
    call = manager.begin_call("a", SHAPE._replace(size=RequestSize(10, 10)))
    call.saw("word " * 200)
    with pytest.raises(BudgetExceededError, match=r"asked for \$0.002561 more, and \$0.00007 can"):
        call.keep_up()


def test_a_grown_hold_counts_its_cost_once_in_tokens() -> None:
    """The parts of a hold that grew have no price of their own, and are none without one."""
    manager = BudgetManager(enforcement="strict", prices=PRICES)
    manager.register_agent("a", max_tokens=5_000)
    call = manager.begin_call("a", SHAPE._replace(size=RequestSize(10, 10)))
    for _ in range(4):
        call.saw("word " * 50)
        call.keep_up()
    call.end(Ending(Usage(input_tokens=10, output_tokens=200)))
    account = manager.accounts()["a"]
    assert (account.consumed, account.cost_micro_usd, account.unpriced_tokens) == (210, 2_020, 0)


@pytest.mark.parametrize(("left", "cap"), [("0.0007", 50), ("0.0006", 40), ("0.000201", 20)])
def test_an_output_cap_is_what_the_dollars_left_pay_for(left: str, cap: int) -> None:
    """After the input; not below the floor, under which the books refuse it."""
    manager = governed(left)
    assert output_cap(manager, "a", SHAPE, floor=20) == cap
    assert asyncio.run(aoutput_cap(manager, "a", SHAPE, floor=20)) == cap
    clamped = SHAPE._replace(output_cap=cap)
    if cap > 20:
        assert manager.begin_call("a", clamped).hold.tokens <= int(Decimal(left) * 10**6)
    else:
        with pytest.raises(BudgetExceededError):
            manager.begin_call("a", clamped)


def test_a_strict_cap_is_sized_by_the_dearest_rates() -> None:
    """So that the clamped call fits its hold."""
    manager = governed("0.0015", enforcement="strict")
    cap = output_cap(manager, "a", SHAPE, floor=1)
    assert cap == (1_500 - 400 * 3) // 10
    assert manager.begin_call("a", SHAPE._replace(output_cap=cap)).hold.tokens == 1_500


def test_a_call_without_a_price_is_not_clamped() -> None:
    """The gate refuses it, and says why."""
    manager = governed()
    assert output_cap(manager, "a", SHAPE._replace(model="unheard of")) is None
    assert output_cap(manager, "a", SHAPE._replace(model=None, output_cap=None)) is None


def test_the_first_guess_is_what_an_eighth_of_the_dollars_pays_for() -> None:
    """Not an eighth of their millionths."""
    manager = governed("0.0080")
    price = manager.price_of("m")
    assert cold_start(manager.contracts["a"], price) == 100
    assert manager.begin_call("a", SHAPE._replace(output_cap=None)).hold.tokens == 200 + 1_000
