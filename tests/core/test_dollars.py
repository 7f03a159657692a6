"""Budgets in dollars: what a call holds, what it is charged, and what is not sent."""

from __future__ import annotations

import asyncio
import io
from decimal import Decimal
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.calls import MORE_TOKENS
from tbcontracts.clamping import aoutput_cap, output_cap
from tbcontracts.endings import Ending
from tbcontracts.exhaustion import grant, granted_amount, request_for
from tbcontracts.model_price import ModelPrice, Rates
from tbcontracts.sizing import CallShape, cold_start
from tbcontracts.tokens import RequestSize

PRICES = {
    "m": {"input": 2, "output": 10, "cached_input": 1, "cache_write": 3},
    "cheap": {"input": 1, "output": 1},
    "free": {"input": 0, "output": 0},
}
TIERED = ModelPrice(1, (Rates(-1, 1, 1, 1, 1, 1), Rates(100, 5, 9, 5, 5, 9)))
SHAPE = CallShape(RequestSize(100, 400), output_cap=50, model="m")
HELD = 100 * 2 + 50 * 10


def governed(max_usd: str = "1", **settings: Any) -> BudgetManager:
    """Return a manager in dollars with one agent."""
    manager = BudgetManager(unit="usd", **{"prices": PRICES, **settings})
    manager.register_agent("a", max_usd=max_usd, min_reserve_usd=0)
    return manager


def text_of(manager: BudgetManager) -> str:
    """Return the printed report."""
    out = io.StringIO()
    manager.print_report(out)
    return out.getvalue()


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
    assert "a: a call was refused (unknown price; $1.00 could be reached)" in text_of(manager)


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
