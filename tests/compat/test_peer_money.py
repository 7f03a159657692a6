"""What libraries and gateways that count money got wrong, each as a test of what is right here.

The numbers in the docstrings were measured with agentbudget 0.4.0, LiteLLM's `BudgetManager` and
other budget libraries, or stand in their users' reports.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts.tokens import RequestSize
from tbcontracts_langchain import budget_callbacks

PRICES = {
    "m": {"input": "3", "output": "15", "cached_input": "0.3", "cache_write": "3.75"},
    "gpt-4o-mini": {"input": "1000", "output": "1000"},
}
SHAPE = CallShape(RequestSize(100, 400), output_cap=50, model="m")


def governed(max_usd: str, **settings: Any) -> BudgetManager:
    """Return a manager in dollars with one agent."""
    manager = BudgetManager(unit="usd", **{"prices": PRICES, **settings})
    manager.register_agent("a", max_usd=max_usd, min_reserve_usd=0)
    return manager


def test_a10_three_calls_of_ten_cents_fit_thirty() -> None:
    """There: $0.30, and the third $0.10 is refused, because 0.1 + 0.1 + 0.1 > 0.3 in floats."""
    manager = governed("0.30")
    for _ in range(3):
        manager.reserve("a", Decimal("0.10")).settle(Decimal("0.10"))
    assert manager.remaining("a") == 0
    with pytest.raises(BudgetExceededError):
        manager.reserve("a", 1)


def test_a10_a_million_small_charges_add_up_exactly() -> None:
    """A float would be off after a few; here each is a whole number."""
    manager = governed("1")
    for _ in range(1_000):
        manager.record_usage("a", Decimal("0.0001"))
    assert manager.accounts()["a"].consumed == 100_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.1, -1, Decimal(-1), Decimal("nan")])
def test_a9_no_budget_is_nan_infinite_or_negative(bad: Any) -> None:
    """There: a budget of NaN tracked a billion dollars; a charge of -10 million gave money back."""
    with pytest.raises((TypeError, ValueError)):
        BudgetManager(unit="usd", prices=PRICES).register_agent("a", max_usd=bad)
    manager = governed("1")
    with pytest.raises((TypeError, ValueError)):
        manager.record_usage("a", bad)
    assert manager.remaining("a") == 1_000_000


def test_a3_an_unknown_model_is_never_free() -> None:
    """There: 15 calls of unlisted models, $0 spent, no error."""
    manager = governed("1")
    with pytest.raises(BudgetExceededError) as refused:
        manager.begin_call("a", SHAPE._replace(model="a fine-tune"))
    assert refused.value.code == "unknown_price"
    tokens = BudgetManager(prices=PRICES)
    tokens.register_agent("a", max_tokens=1_000)
    call = tokens.begin_call("a", SHAPE._replace(model="a fine-tune"))
    call.end(Ending(Usage(input_tokens=9)))
    assert tokens.accounts()["a"].unpriced_tokens == 9


def test_a13_cached_tokens_are_counted_once_at_their_own_rate() -> None:
    """There: $0.0018 of $0.2493; elsewhere $44.58 shown for some $7, because they counted twice."""
    manager = governed("1")
    anthropic = {
        "model": "m",
        "usage": {
            "input_tokens": 100,
            "cache_read_input_tokens": 50_000,
            "cache_creation_input_tokens": 20_000,
            "output_tokens": 200,
        },
    }
    manager.record_usage("a", Usage.read(anthropic))
    assert manager.accounts()["a"].consumed == 100 * 3 + 15_000 + 75_000 + 200 * 15
    manager.record_usage("a", Usage(input_tokens=1_000, cached_input_tokens=900, model="m"))
    assert manager.journal()[-1].amount == 100 * 3 + 270


def test_reasoning_tokens_are_counted_once() -> None:
    """They are part of the output; a report that adds them bills them twice."""
    manager = governed("1")
    manager.record_usage("a", Usage(output_tokens=100, reasoning_tokens=80, model="m"))
    assert manager.accounts()["a"].consumed == 1_500


def test_a1_usage_that_breaks_the_budget_is_on_the_books() -> None:
    """There: 40 calls, $0.50 real, $0.0125 recorded, because what breaches is dropped."""
    manager = governed("0.01")
    with pytest.raises(BudgetExceededError):
        manager.record_usage("a", Decimal("0.50"))
    assert manager.accounts()["a"].consumed == 500_000
    with pytest.raises(BudgetExceededError):
        manager.reserve("a", 1)


def test_a6_parallel_calls_do_not_spend_the_same_dollars() -> None:
    """There: 40 sent, $0.50 real on $0.10. LiteLLM's counter lost updates: 9.837 of 10.0."""
    manager, start, granted = governed("0.10"), threading.Barrier(40), []

    def call() -> None:
        start.wait()
        try:
            granted.append(manager.reserve("a", Decimal("0.0125")))
        except BudgetExceededError:
            return

    with ThreadPoolExecutor(40) as threads:
        for started in [threads.submit(call) for _ in range(40)]:
            started.result()
    assert len(granted) == 8
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda hold: hold.settle(Decimal("0.0125")), granted))
    assert manager.accounts()["a"].consumed == 100_000


def test_a12_children_do_not_overcommit_their_parent() -> None:
    """There: a parent of $1, two children spent $1.80, and it reported $0.90."""
    parent = governed("1")
    children = [governed("0.90").within(parent, agent="a") for _ in range(2)]
    children[0].reserve("a", Decimal("0.90")).settle(Decimal("0.90"))
    with pytest.raises(BudgetExceededError):
        children[1].reserve("a", Decimal("0.90"))
    assert parent.accounts()["a"].consumed == 900_000


def test_b1_langchains_client_is_seen_and_stopped() -> None:
    """There: 10 calls of ChatOpenAI, $0.0 recorded; a callback's stop was swallowed, 40 of 40."""
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=5, output_tokens=5)) as server:
        manager = governed("0.05")
        config: Any = {
            "callbacks": budget_callbacks(manager),
            "metadata": {"tbcontracts": {"agent": "a"}},
        }
        model = ChatOpenAI(
            base_url=server.base_url,
            api_key=SecretStr("test"),
            model="gpt-4o-mini",
            max_completion_tokens=5,
            max_retries=0,
        )
        refused = 0
        for _ in range(40):
            try:
                model.invoke("hi", config)
            except BudgetExceededError:
                refused += 1
        assert (len(server.log), refused) == (5, 35)
        assert manager.accounts()["a"].consumed == 50_000


def test_b5_a_broken_off_stream_is_not_free() -> None:
    """There: +0. Its input, and the output that arrived, are charged and marked."""
    manager = governed("1")
    call = manager.begin_call("a", SHAPE)
    call.saw("one two three")
    call.end(Ending(error=GeneratorExit()))
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured == 100 * 3 + 3 * 15


def test_missing_usage_is_not_zero() -> None:
    """Gateways price an unreported call at 0 cents; its estimate is charged here, and says so."""
    manager = governed("1")
    manager.begin_call("a", SHAPE).end(Ending(Usage.unknown(None)))
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured == 100 * 3 + 50 * 15


def test_litellm_a_fresh_manager_does_not_forget_what_was_spent(tmp_path: Any) -> None:
    """There: made anew, its spend is 0 again; `created_at` is the time of the import."""
    for spent in (250_000, 500_000):
        manager = governed("1", store=f"sqlite:///{tmp_path}/budget.db")
        manager.record_usage("a", Decimal("0.25"))
        assert manager.accounts()["a"].consumed == spent
        manager.store.close()


def test_litellm_multimodal_content_is_priced() -> None:
    """There: `projected_cost` raised TypeError on content that is a list of parts."""
    from tbcontracts.tokens import size_request

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    size = size_request([{"role": "user", "content": [{"type": "text", "text": "hi"}, image]}])
    manager = governed("1")
    assert manager.begin_call("a", SHAPE._replace(size=size)).hold.tokens > 50 * 15
