"""Where prices of models come from: a table of one's own, a list of known models, or anything else.

What nobody knows is None, and never 0; a model is free only where a table says 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from tbcontracts.checks import check_name, shown
from tbcontracts.errors import ConfigurationError
from tbcontracts.model_price import ModelPrice

GENAI_PRICES = "genai-prices"
INSTALL = (
    'pip install "tbcontracts[prices]" (Python 3.11 or later) brings the prices of known models'
)
_DATE = re.compile(r"[-@](20\d\d-?[01]\d-?[0-3]\d|latest)$")


@runtime_checkable
class PriceSource(Protocol):
    """Whoever knows what models cost."""

    def price_of(self, model: str, provider: str | None = None) -> ModelPrice | None:
        """Return the price of a model as it is now; None where it is not known.

        Args:
            model: Its name, as requests or replies have it.
            provider: Who serves it, as far as that is known; tells models of one name apart.
        """
        ...


Prices = str | Mapping[str, Any] | PriceSource | None
"""What `BudgetManager(prices=...)` takes."""


class PriceTable:
    """Prices that somebody wrote down.

    A dated name (`my-model-2026-05-01`) has the price of the plain one, and a name behind its
    provider's (`openai/my-model`) that of the bare one, unless it stands there itself.

    Args:
        models: For each model, dollars for a million tokens: {"my-model": {"input": "0.15",
            "output": "0.60"}}; see `ModelPrice.per_million`. Or a `ModelPrice`.
        as_written: Floats will do, for what was read from a file.

    Raises:
        ConfigurationError: A price cannot be; the text names the model.
    """

    def __init__(
        self,
        models: Mapping[str, Mapping[str, Any] | ModelPrice],
        *,
        as_written: bool = False,
    ) -> None:
        self._prices: dict[str, ModelPrice] = {}
        for model, dollars in models.items():
            try:
                name = check_name(model, "name of a model")
                price = _written(dollars, as_written=as_written)
            except (TypeError, ValueError) as error:
                msg = f"The price of model {model!r}: {error}"
                helps = '"my-model": {"input": "0.15", "output": "0.60"}, in dollars for a million'
                raise ConfigurationError(msg, remedy=f"What helps: {helps}.") from None
            self._prices[name.casefold()] = price

    def price_of(self, model: str, provider: str | None = None) -> ModelPrice | None:
        """Return the price of a model; None where it is not in the table."""
        names = _spellings(model)
        if provider is not None:
            names = [f"{provider}/{names[0]}", *names]
        for name in names:
            found = self._prices.get(name.casefold())
            if found is not None:
                return found
        return None


def _written(dollars: object, *, as_written: bool) -> ModelPrice:
    """Return a price from what stands under a model in a table."""
    if isinstance(dollars, ModelPrice):
        return dollars
    if not isinstance(dollars, Mapping):
        msg = f"It must be a table of dollars, not {type(dollars).__name__}."
        raise TypeError(msg)
    return ModelPrice.per_million(as_written=as_written, **dollars)


def _spellings(model: str) -> list[str]:
    """Return the names by which a model may be known, the most exact one first."""
    names = [model]
    while "/" in names[-1]:
        names.append(names[-1].partition("/")[2])
    return names + [_DATE.sub("", name) for name in names if _DATE.search(name)]


class FirstKnown:
    """Several sources: the first one that knows a model is believed."""

    def __init__(self, *sources: PriceSource) -> None:
        self._sources = sources

    def price_of(self, model: str, provider: str | None = None) -> ModelPrice | None:
        """Return the price of a model from the first source that knows it."""
        for source in self._sources:
            found = source.price_of(model, provider)
            if found is not None:
                return found
        return None


def price_source(prices: object, unit: str = "tokens") -> PriceSource | None:
    """Return the source of prices that was asked for.

    The list of genai-prices is loaded here, while a program is set up, and never later: that takes
    most of a second, once in a process.

    Args:
        prices: None, "genai-prices", a table, or a source of one's own. In dollars None is the
            list of known models; a table is asked before that list.
        unit: What the budgets are in.

    Raises:
        ConfigurationError: It is none of these, or a price in it cannot be.
        ImportError: genai-prices was named, and is not installed.
    """
    if prices is None:
        return None if unit == "tokens" else _known_models() or PriceTable({})
    if isinstance(prices, str) and prices == GENAI_PRICES:
        return _genai_prices()
    if isinstance(prices, Mapping):
        own, listed = PriceTable(prices), _known_models()
        return own if listed is None else FirstKnown(own, listed)
    if isinstance(prices, PriceSource):
        return prices
    msg = f'prices must be None, "{GENAI_PRICES}", a table or a source, not {shown(prices)}.'
    helps = 'What helps: prices={"my-model": {"input": "0.15", "output": "0.60"}}.'
    raise ConfigurationError(msg, remedy=helps)


def _known_models() -> PriceSource | None:
    """Return the list of known models, if it is installed."""
    try:
        return _genai_prices()
    except ImportError:
        return None


def _genai_prices() -> PriceSource:
    """Load the list of known models.

    Raises:
        ImportError: It is not installed.
    """
    try:
        from tbcontracts.pricing_genai import shared
    except ImportError as error:
        msg = f"Prices of known models need genai-prices. What helps: {INSTALL}; or a table of "
        msg += 'your own, prices={"my-model": {"input": "0.15", "output": "0.60"}}.'
        raise ImportError(msg, name=error.name) from error
    return shared()
