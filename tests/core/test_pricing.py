"""What a usage costs: exact, every token once, unknown never 0; own tables and the known models."""

from __future__ import annotations

import math
import sys
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.errors import ConfigurationError
from tbcontracts.model_price import ModelPrice, exact_price
from tbcontracts.pricing import FirstKnown, PriceTable, price_source
from tbcontracts.usage import Usage

TOKENS = st.integers(0, 10**7)
DOLLARS = st.decimals(0, 1000, places=7, allow_nan=False, allow_infinity=False)
MINI = ModelPrice.per_million(input="0.15", output="0.60", cached_input="0.075")

needs_list = pytest.mark.skipif(sys.version_info < (3, 11), reason="genai-prices needs 3.11")


def test_each_token_is_counted_once_at_its_own_rate() -> None:
    """Parts lie in their whole: they cost their own rate, and the rest that of the whole."""
    price = ModelPrice.per_million(
        input=10, output=100, cached_input=1, cache_write=20, reasoning=1000
    )
    usage = Usage(
        input_tokens=100,
        cached_input_tokens=30,
        cache_write_tokens=20,
        output_tokens=10,
        reasoning_tokens=4,
    )
    assert price.cost(usage) == 50 * 10 + 30 * 1 + 20 * 20 + 6 * 100 + 4 * 1000


def test_a_part_without_a_price_has_that_of_its_whole() -> None:
    """Cached input costs what input does where nobody says otherwise, and reasoning as output."""
    price = ModelPrice.per_million(input=3, output=7)
    usage = Usage(input_tokens=10, cached_input_tokens=9, output_tokens=5, reasoning_tokens=5)
    assert price.cost(usage) == 10 * 3 + 5 * 7


@given(st.tuples(*[TOKENS] * 5), st.tuples(*[DOLLARS] * 5))
def test_a_cost_is_the_exact_one_rounded_up(
    tokens: tuple[int, ...], rates: tuple[Decimal, ...]
) -> None:
    """Against fractions: no float and no context of decimals is in the way."""
    plain, cached, written, answer, thought = tokens
    names = ("input", "cached_input", "cache_write", "output", "reasoning")
    given_rates: dict[str, Any] = dict(zip(names, rates, strict=True))
    price = ModelPrice.per_million(**given_rates)
    usage = Usage(
        input_tokens=plain + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=answer + thought,
        reasoning_tokens=thought,
    )
    exact = sum(Fraction(rate) * used for rate, used in zip(rates, tokens, strict=True))
    cost, most = price.cost(usage), price.most(usage.input_tokens, usage.output_tokens)
    assert cost == math.ceil(exact)
    assert most is not None
    assert most >= cost


@given(st.integers(0, 10**9), TOKENS, DOLLARS, DOLLARS, st.booleans())
def test_what_an_amount_pays_for_is_the_most_that_it_does(
    amount: int, input_tokens: int, rate_in: Decimal, rate_out: Decimal, at_most: bool
) -> None:
    """So many tokens of output cost no more than the amount, and one more does."""
    price = ModelPrice.per_million(input=rate_in, output=rate_out, cache_write=rate_in * 2 + 1)
    answer = price.output_for(amount, input_tokens, at_most=at_most)
    cost: Any = price.most if at_most else price.expected
    assert answer is not None
    if 0 <= answer < AMOUNT_MAX:
        assert cost(input_tokens, answer) <= amount
        assert cost(input_tokens, answer + 1) > amount
    elif answer < 0:
        assert cost(input_tokens, 0) > amount


def test_all_tokens_have_the_rates_of_the_tier_that_the_input_reaches() -> None:
    """As the providers bill: one token above, and all of them cost more; a bound is the dearest."""
    steps = {"input": ((-1, Fraction(3)), (200, Fraction(6))), "output": ((-1, Fraction(15)),)}
    price = exact_price(steps)
    assert price.cost(Usage(input_tokens=200, output_tokens=1)) == 615
    assert price.cost(Usage(input_tokens=201, output_tokens=1)) == 201 * 6 + 15
    assert price.expected(200, 1) == price.most(200, 1) == 615
    assert price.most(201, 1) == 201 * 6 + 15
    dear_and_cheap = exact_price(
        {"input": ((-1, Fraction(9)), (200, Fraction(1)))} | {"output": ((-1, Fraction(0)),)}
    )
    assert dear_and_cheap.expected(300, 0) == 300
    assert dear_and_cheap.most(300, 0) == 2700, "the input may turn out smaller"


def test_a_bound_counts_what_a_cache_may_make_of_it() -> None:
    """Input that is written to a cache costs more than plain input: a strict hold covers it."""
    price = ModelPrice.per_million(input=4, output=8, cache_write=5, reasoning=9)
    assert price.expected(10, 10) == 120
    assert price.most(10, 10) == 140


def test_a_price_that_is_about_to_change_bounds_by_the_dearer_one() -> None:
    """A call may end after the hour strikes."""
    price = MINI._replace(soon=ModelPrice.per_million(input=1, output=2))
    assert price.expected(100, 100) == MINI.expected(100, 100)
    assert price.most(100, 100) == 300
    assert price.output_for(300, 100, at_most=True) == 100
    assert price.output_for(300, 100) == MINI.output_for(300, 100)


@pytest.mark.parametrize("missing", ["input", "output"])
def test_a_kind_of_token_without_a_price_is_unknown_not_free(missing: str) -> None:
    """An embedding model has no price for output: nothing is made up for it."""
    other = "output" if missing == "input" else "input"
    price, used = (
        ModelPrice.per_million(**{other: "1"}),  # type: ignore[arg-type]
        {kind: Usage(**{f"{kind}_tokens": 5}) for kind in (missing, other)},  # type: ignore[arg-type]
    )
    assert price.cost(used[missing]) is None
    assert price.expected(5, 5) is price.most(5, 5) is price.output_for(5, 5) is None
    assert price.cost(used[other]) == 5


def test_only_an_explicit_0_is_free() -> None:
    """A local model costs nothing where somebody says so."""
    free = ModelPrice.per_million(input=0, output=0)
    assert free.cost(Usage(input_tokens=10**9, output_tokens=10**9)) == 0
    assert free.output_for(0, 10**9) == AMOUNT_MAX
    with pytest.raises(ValueError, match="input, of output, or of both"):
        ModelPrice.per_million()
    with pytest.raises(ValueError, match="input, of output, or of both"):
        ModelPrice.per_million(reasoning=3)


def test_a_request_may_cost_something_beside_its_tokens() -> None:
    """Some models search, and bill each request."""
    price = ModelPrice.per_million(input=1, output=1, request="0.005")
    assert price.cost(Usage(input_tokens=10, output_tokens=10)) == 5020
    assert price.output_for(5020, 10) == 10


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0.15, TypeError),
        (True, TypeError),
        ([], TypeError),
        ("0,15", ValueError),
        ("free", ValueError),
        (-1, ValueError),
        (Decimal("nan"), ValueError),
        (Decimal("inf"), ValueError),
        (10**7, ValueError),
    ],
)
def test_bad_prices_are_refused_where_they_are_given(value: Any, error: type[Exception]) -> None:
    """And the text of a table's error names the model."""
    with pytest.raises(error, match="price of input"):
        ModelPrice.per_million(input=value)
    with pytest.raises(ConfigurationError, match="model 'm'"):
        PriceTable({"m": {"input": value}})


def test_a_misspelt_kind_says_which_is_meant() -> None:
    """In a table of one's own as in a file."""
    with pytest.raises(ConfigurationError, match="Did you mean 'cached_input'"):
        PriceTable({"m": {"input": 1, "cache_input": 1}})
    with pytest.raises(ConfigurationError, match="must be a table of dollars, not str"):
        PriceTable({"m": "0.15"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("asked", "provider"),
    [
        ("Our-Model", None),
        ("our-model-2026-05-01", None),
        ("our-model-20260501", "openai"),
        ("openai/our-model", None),
        ("openrouter/openai/our-model-latest", None),
        ("our-model", "openai"),
    ],
)
def test_a_table_knows_a_model_by_its_other_spellings(asked: str, provider: str | None) -> None:
    """Replies name the dated model, gateways put providers before it."""
    assert PriceTable({"our-model": MINI}).price_of(asked, provider) is MINI


def test_the_most_exact_name_counts() -> None:
    """A dated model, or one of a provider, may have a price of its own."""
    dated, hosted = (ModelPrice.per_million(input=n, output=n) for n in (1, 2))
    table = PriceTable({"m": MINI, "m-2026-05-01": dated, "azure/m": hosted})
    assert table.price_of("m-2026-05-01") is dated
    assert table.price_of("m", "azure") is table.price_of("azure/m") is hosted
    assert table.price_of("m", "openai") is MINI
    assert table.price_of("mm") is None
    assert FirstKnown(PriceTable({}), table).price_of("m") is MINI
    assert FirstKnown(PriceTable({})).price_of("m") is None


@needs_list
def test_known_models_cost_what_the_list_says() -> None:
    """For every model of genai-prices: its own sum, rounded up, wherever ours knows a price."""
    import genai_prices
    from genai_prices import data_snapshot

    from tbcontracts.pricing_genai import _Same, _translated

    now = datetime.now(tz=timezone.utc)
    sizes = [(1_000, 0, 0, 500), (1_000, 300, 200, 500), (300_000, 9, 5, 77), (200_000, 0, 0, 1)]
    compared = 0
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            price = _translated(_Same(model.get_prices(now)))
            for input_tokens, cached, written, output_tokens in sizes:
                usage = Usage(
                    input_tokens=input_tokens,
                    cached_input_tokens=cached,
                    cache_write_tokens=written,
                    output_tokens=output_tokens,
                )
                ours = None if price is None else price.cost(usage)
                if ours is None:
                    continue
                listed = genai_prices.Usage(
                    input_tokens=input_tokens,
                    cache_read_tokens=cached,
                    cache_write_tokens=written,
                    output_tokens=output_tokens,
                )
                total = model.calc_price(listed, provider, genai_request_timestamp=now).total_price
                assert ours == math.ceil(total * 1_000_000), (provider.id, model.id)
                compared += 1
    assert compared > 4_000


@needs_list
@pytest.mark.parametrize(
    ("model", "provider", "input_price"),
    [
        ("gpt-4o-mini", "openai", "0.15"),
        ("gpt-4o-mini-2024-07-18", None, "0.15"),
        ("openai/gpt-4o-mini", None, "0.15"),
        ("azure/gpt-4o-mini", None, "0.15"),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "amazon_bedrock", "3"),
        ("gemini/gemini-2.5-flash-lite", None, "0.1"),
        ("models/gemini-2.5-flash-lite", "google_genai", "0.1"),
    ],
)
def test_known_models_are_found_by_the_names_that_frameworks_use(
    model: str, provider: str | None, input_price: str
) -> None:
    """A provider tells models of one name apart, by whichever of its names."""
    source = price_source("genai-prices")
    assert source is not None
    price = source.price_of(model, provider)
    assert price is not None
    assert price.expected(10**6, 0) == Decimal(input_price) * 10**6


@needs_list
def test_what_the_list_does_not_have_is_unknown() -> None:
    """A made-up name, and a model on a machine of one's own: nobody lists what that costs."""
    source = price_source("genai-prices")
    assert source is not None
    for model, provider in (("my-model", "openai"), ("llama3", "ollama"), ("ollama/gpt-oss", None)):
        assert source.price_of(model, provider) is None


@needs_list
def test_an_own_table_counts_before_the_list() -> None:
    """And the list answers for the others; a table alone is a source, too."""
    both = price_source({"gpt-4o-mini": {"input": 9, "output": 9}})
    assert both is not None
    ours, theirs = both.price_of("gpt-4o-mini-2024-07-18"), both.price_of("gpt-4o")
    assert ours is not None
    assert theirs is not None
    assert ours.expected(1, 0) == 9
    alone = price_source(PriceTable({"m": MINI}))
    assert alone is not None
    assert alone.price_of("gpt-4o") is None
    assert price_source(None) is None
    dollars = price_source(None, "usd")
    assert dollars is not None
    assert dollars.price_of("gpt-4o") == theirs


def test_without_the_list_own_tables_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for it by name says what to install."""
    monkeypatch.setitem(sys.modules, "tbcontracts.pricing_genai", None)
    own = price_source({"m": {"input": 1, "output": 2}}, "usd")
    assert own is not None
    assert own.price_of("m") is not None
    nothing = price_source(None, "usd")
    assert nothing is not None
    assert nothing.price_of("gpt-4o") is None
    with pytest.raises(ImportError, match=r"tbcontracts\[prices\].*Python 3.11"):
        price_source("genai-prices")


@pytest.mark.parametrize("prices", ["litellm", 5, [("m", {})], object()])
def test_other_sources_are_refused(prices: Any) -> None:
    """With what there is."""
    with pytest.raises(ConfigurationError, match="prices must be None"):
        price_source(prices)


def test_usage_carries_its_model_and_cost_but_is_compared_by_its_tokens() -> None:
    """Two reports of one call are the same one, whoever knew its price."""
    usage = Usage(input_tokens=5, model="m", cost_micro_usd=7)
    assert usage == Usage(input_tokens=5)
    both = usage + Usage(output_tokens=2, model="m", cost_micro_usd=3)
    assert (both.model, both.cost_micro_usd, both.total_tokens) == ("m", 10, 7)
    assert (usage + Usage(output_tokens=2)).cost_micro_usd is None
    assert (usage + Usage(output_tokens=2)).model is None
    for bad in (-1, 1.5, True, AMOUNT_MAX + 1):
        with pytest.raises(ValueError, match="cost_micro_usd"):
            Usage(cost_micro_usd=bad)  # type: ignore[arg-type]


def test_the_name_of_a_model_is_cut_and_cannot_end_a_line() -> None:
    """It is the provider's word, and stands in reports."""
    assert Usage(model="a\nb\u202e").model == "a\\nb\\u202e"
    assert Usage(model="x" * 500).model == "x" * 200
    assert Usage(model="  ").model is None
    assert Usage(model=5).model is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "model"),
    [
        ({"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "m"),
        ({"modelVersion": "g", "usageMetadata": {"promptTokenCount": 1}}, "g"),
        ({"response_metadata": {"model_name": "n"}, "usage": {"input_tokens": 1}}, "n"),
        ({"usage": {"input_tokens": 1}}, None),
        ({"model": 5, "usage": {"input_tokens": 1}}, None),
    ],
)
def test_a_reply_names_its_model(reply: dict[str, Any], model: str | None) -> None:
    """By whichever name its provider has for that."""
    assert Usage.read(reply).model == model
