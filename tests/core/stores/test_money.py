"""Money on every store: exact sums, each counted once, and never on the same books as tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal

import pytest

from tbcontracts import BudgetContract, BudgetManager, Usage, open_store
from tbcontracts.commands import ChangeContract, Charge, Open, Refuse, Reserve, Settle, Void
from tbcontracts.endings import Ending
from tbcontracts.errors import ConfigurationError
from tbcontracts.sizing import CallShape
from tbcontracts.stores.base import Store
from tbcontracts.testing.checking import read_books
from tbcontracts.tokens import RequestSize

# Prices that no float has, and that do not come out even.
PRICES = {
    "a": {"input": "0.15", "output": "0.60", "cached_input": "0.075"},
    "b": {"input": "3", "output": "15", "cached_input": "0.3", "cache_write": "3.75"},
    "c": {"input": "0.0333333", "output": "0.7777777", "reasoning": "1.2345678"},
}
SHAPE = CallShape(RequestSize(100, 400), output_cap=50, model="a")


@pytest.fixture
def store(any_url: str) -> Iterator[Store]:
    """Open an empty store of each kind."""
    opened = open_store(any_url)
    yield opened
    opened.close()


def in_usd(store: Store, **settings: str) -> BudgetManager:
    """Return a manager in dollars with one agent."""
    manager = BudgetManager(store=store, unit="usd", prices=PRICES, **settings)  # type: ignore[arg-type]
    manager.register_agent("x", max_usd=Decimal(1000))
    return manager


def usages(seed: int) -> Iterator[Usage]:
    """Yield usages at random, of models whose price is known."""
    chance = random.Random(seed)
    for _ in range(60):
        cached, written, thought = (chance.choice((0, chance.randrange(5_000))) for _ in range(3))
        yield Usage(
            input_tokens=cached + written + chance.randrange(20_000),
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=thought + chance.randrange(3_000),
            reasoning_tokens=thought,
            model=chance.choice(("a", "b", "c")),
            measured=chance.random() > 0.2,
        )


@pytest.mark.parametrize("seed", range(3))
def test_what_is_on_the_books_is_the_sum_of_exact_costs(store: Store, seed: int) -> None:
    """Each call's cost rounded up once; in dollars that is what was consumed, to the last digit.

    Settled, charged, settled for now and then for good, given up, and grown in parts.
    """
    dollars = in_usd(store, enforcement="strict")
    tokens = BudgetManager(store=store, scope="tokens", prices=PRICES, enforcement="strict")
    tokens.register_agent("x", max_tokens=10**9)
    expected = 0
    for number, usage in enumerate(usages(seed)):
        price = dollars.price_of(usage.model)
        cost = None if price is None else price.cost(usage)
        assert cost is not None
        expected += cost
        for manager in (dollars, tokens):
            if number % 3 == 0:
                manager.record_usage("x", usage)
                continue
            call = manager.begin_call("x", SHAPE)
            if number % 3 == 1:
                call.saw("word " * 300)
                call.keep_up()
            if number % 2:
                call.hold.settle(Usage.estimated(9, 9, model="b"), final=False)
            call.hold.settle(usage)
    account = dollars.accounts()["x"]
    assert (account.cost_micro_usd, account.consumed, account.held) == (expected, expected, 0)
    assert tokens.accounts()["x"].cost_micro_usd == expected
    assert account.unpriced_tokens == tokens.accounts()["x"].unpriced_tokens == 0


def test_a_guess_that_is_given_back_costs_nothing(store: Store) -> None:
    """A provisional settlement is taken back whole, known price or not."""
    tokens = BudgetManager(store=store, prices=PRICES)
    tokens.register_agent("x", max_tokens=10_000)
    for model in ("a", "unheard of"):
        call = tokens.begin_call("x", SHAPE._replace(model=model))
        call.end(Ending(given_up=True))
        guessed = tokens.accounts()["x"]
        assert guessed.cost_micro_usd or guessed.unpriced_tokens
        call.end(Ending(unbilled=True))
        account = tokens.accounts()["x"]
        assert (account.consumed, account.cost_micro_usd, account.unpriced_tokens) == (0, 0, 0)


def test_dollars_and_tokens_never_share_books(store: Store) -> None:
    """Whoever comes second is told both units, and changes nothing there."""
    for first, second in (("tokens", "usd"), ("usd", "tokens")):
        for on_change in ("keep", "apply", "raise"):
            scope = f"{first} {on_change}"
            one, other = (
                BudgetManager(
                    store=store,
                    scope=scope,
                    unit=unit,
                    prices=PRICES,
                    on_contract_change=on_change,
                )
                for unit in (first, second)
            )
            one.register(BudgetContract("x", max_tokens=500, unit=first))
            one.reserve("x", 10)
            before = read_books(store, scope)
            assert before.unit == first
            other.register(BudgetContract("x", max_tokens=500, unit=second))
            other.register(BudgetContract("y", max_tokens=500, unit=second))
            with pytest.raises(ConfigurationError) as refused:
                other.reserve("y", 10)
            assert "tokens" in str(refused.value)
            assert "US dollars" in str(refused.value)
            assert f'unit="{first}"' in str(refused.value)
            with pytest.raises(ConfigurationError):
                other.report()
            assert read_books(store, scope) == before


def test_books_without_contracts_have_a_unit_as_well(store: Store) -> None:
    """Calls that are only tracked are dollars or tokens, too."""
    with pytest.warns(UserWarning, match="no contract"):
        BudgetManager(store=store, unit="usd", prices=PRICES).begin_call("somebody", SHAPE)
    assert read_books(store, "default").unit == "usd"
    tokens = BudgetManager(store=store)
    with pytest.raises(ConfigurationError), pytest.warns(UserWarning, match="no contract"):
        tokens.begin_call("somebody", SHAPE)


def test_each_way_to_bring_another_unit_is_refused(store: Store) -> None:
    """As commands, without a manager that looks first; the books stay as they were."""
    dollars, tokens = BudgetContract.in_usd("d", max_usd=1), BudgetContract("t", max_tokens=9)
    store.apply("s", Open((tokens,)))
    before = read_books(store, "s")
    for command in (
        Open((dollars,), "usd"),
        Open((), "usd"),
        Open((dollars,)),
        Open((tokens, dollars)),
        ChangeContract(dollars.changed(agent_name="t")),
    ):
        with pytest.raises(ConfigurationError):
            store.apply("s", command)
    assert read_books(store, "s") == before


def test_a_key_finds_its_charge_whoever_knew_the_price(store: Store) -> None:
    """Another process may have other prices: the usage is the same, and is posted once."""
    store.apply("s", Open((BudgetContract("t", max_tokens=900),)))
    for usage in (
        Usage(input_tokens=5, model="m", cost_micro_usd=7),
        Usage(input_tokens=5, cost_micro_usd=9),
        Usage(input_tokens=5),
    ):
        store.apply("s", Charge("t", 5, usage, key="k"))
    (account,) = read_books(store, "s").accounts
    assert (account.consumed, account.cost_micro_usd, account.unpriced_tokens) == (5, 7, 0)


def test_facts_name_the_model_and_the_cost(store: Store) -> None:
    """In the journal of each store in the same words."""
    store.apply("s", Open((BudgetContract.in_usd("t", max_usd=1),), "usd"))
    store.apply("s", Reserve("t", 50, "h1"))
    known = Usage(input_tokens=3, output_tokens=2, model="m", cost_micro_usd=9)
    store.apply("s", Settle("h1", "t", 9, known))
    store.apply("s", Reserve("t", 50, "h2"))
    store.apply("s", Settle("h2", "t", 50, Usage(input_tokens=3, model="m")))
    store.apply("s", Charge("t", 5, Usage(input_tokens=1)))
    store.apply("s", Charge("t", 5))
    store.apply("s", Reserve("t", 50, "h3"))
    store.apply("s", Settle("h3", "t", 4, Usage(cost_micro_usd=0)))  # a part of a hold that grew
    store.apply("s", Void("h4"))
    opened, *entries = store.journal("s")
    assert opened.facts["unit"] == "usd"
    tokens = {"input_tokens": 3, "output_tokens": 2}
    assert [dict(entry.facts) for entry in entries if entry.kind in ("settled", "charged")] == [
        {"held": 50, **tokens, "model": "m", "cost_micro_usd": 9},
        {"held": 50, **tokens, "output_tokens": 0, "model": "m", "unpriced": True},
        {"input_tokens": 1, "output_tokens": 0, "unpriced": True},
        {},
        {"held": 50, "input_tokens": 0, "output_tokens": 0, "cost_micro_usd": 0},
    ]
    (account,) = read_books(store, "s").accounts
    assert (account.cost_micro_usd, account.unpriced_tokens) == (9 + 50 + 5 + 5 + 4, 4)


def test_books_keep_their_unit_for_whoever_opens_them_next(url: str) -> None:
    """Another process reads it, counts in it, and refuses the other one."""
    with closing(open_store(url)) as first:
        manager = in_usd(first)
        manager.begin_call("x", SHAPE).hold.settle(Usage.estimated(9, 9, model="b"), final=False)
        first_account = manager.accounts()["x"]
    with closing(open_store(url)) as second:
        assert read_books(second, "default").unit == "usd"
        assert in_usd(second).accounts()["x"] == first_account
        with pytest.raises(ConfigurationError):
            second.apply("default", Open((BudgetContract("t", max_tokens=9),)))
        second.apply("default", Charge("x", 5, Usage(input_tokens=7)))
        account = in_usd(second).accounts()["x"]
        assert account.cost_micro_usd == account.consumed == first_account.consumed + 5
        assert account.unpriced_tokens == 7


def test_a_refusal_names_the_model_whose_price_is_unknown(store: Store) -> None:
    """Another model is another refusal; the same one again is only counted."""
    store.apply("s", Open((BudgetContract.in_usd("t", max_usd=1),), "usd"))
    for model in ('a/"b"', 'a/"b"', "ä", None, None):
        store.apply("s", Refuse("t", 0, "unknown_price", model=model))
    store.apply("s", Refuse("t", 0, "unknown_price", observed=True, model="m"))
    told = {"code": "unknown_price", "available": 1_000_000}
    assert [dict(entry.facts) for entry in store.journal("s")[1:]] == [
        {**told, "model": 'a/"b"'},
        {**told, "model": "ä"},
        told,
        {**told, "model": "m"},
    ]
    assert read_books(store, "s").accounts[0].denials == 6
