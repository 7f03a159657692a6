"""Prices of known models, from the list that genai-prices brings along.

Its list is bundled: nothing is fetched, and its updater is never started here. Where a program
starts it, the prices that it brings count. Whoever imports this module needs genai-prices, and
waits most of a second for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from genai_prices import data_snapshot
from genai_prices.types import TieredPrices

from tbcontracts.model_price import ModelPrice, Steps, exact_price

_MODELS_MAX = 1_000
_SOON = timedelta(minutes=30)  # no call takes longer
# How its keys call what we count. Prices of pictures, sound, searches and long-lived cache entries
# have no bucket of ours.
_KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
}
_ALIASES = {
    "amazon_bedrock": "aws",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "gemini": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "vertex_ai": "google",
    "xai": "x-ai",
}
"""How frameworks call providers that the list knows by another name."""
_OWN_MACHINES = frozenset(
    ("hosted_vllm", "llamacpp", "llamafile", "lm_studio", "ollama", "ollama_chat", "vllm")
)
"""What serves models on machines of the user's own: the list price of others is not theirs."""


class GenaiPrices:
    """The prices of genai-prices, as they are at the moment."""

    def __init__(self) -> None:
        self._snapshot = data_snapshot.get_snapshot()
        self._find = lru_cache(_MODELS_MAX)(self._find_model)
        self._translate = lru_cache(_MODELS_MAX)(_translated)

    def price_of(self, model: str, provider: str | None = None) -> ModelPrice | None:
        """Return the price of a model as it is now; None where the list does not have it."""
        snapshot = data_snapshot.get_snapshot()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._find.cache_clear()
        found = self._find(model, provider)
        if found is None:
            return None
        now = datetime.now(tz=timezone.utc)
        prices = found.get_prices(now)
        price = self._translate(_Same(prices))
        if price is None or not isinstance(found.prices, list):
            return price
        later = found.get_prices(now + _SOON)
        return price if later is prices else price._replace(soon=self._translate(_Same(later)))

    def _find_model(self, model: str, provider: str | None) -> Any:
        """Return what the list knows of a model, or None."""
        for name, whose in _places(model, provider):
            with suppress(LookupError):
                return self._snapshot.find_provider_model(name, None, whose, None)[1]
        return None


@lru_cache(1)
def shared() -> GenaiPrices:
    """Return the one source of a process."""
    return GenaiPrices()


def _places(model: str, provider: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield names and providers under which a model may be listed, the most exact one first."""
    hints = [hint for hint in (provider,) if hint]
    names = [model]
    while "/" in names[-1]:
        before, _, rest = names[-1].partition("/")
        hints.append(before)
        names.append(rest)
    if any(hint.lower() in _OWN_MACHINES for hint in hints):
        return
    for hint in hints:
        for name in names:
            yield name, _ALIASES.get(hint.lower(), hint)
    for name in names:
        yield name, None


class _Same:
    """A price of the list as a key: it is the same one, not an equal one."""

    __slots__ = ("prices",)

    def __init__(self, prices: Any) -> None:
        self.prices = prices

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.prices is other.prices

    def __hash__(self) -> int:
        return id(self.prices)


def _translated(same: _Same) -> ModelPrice | None:
    """Return a price of the list as ours; None where it has none for tokens."""
    listed = vars(same.prices)
    kinds = {
        kind: _steps(listed[key]) for key, kind in _KEYS.items() if listed.get(key) is not None
    }
    if "input" not in kinds and "output" not in kinds:
        return None
    per_thousand = listed.get("requests_kcount")
    request = None if per_thousand is None else Fraction(per_thousand) / 1_000
    return exact_price(kinds, request)


def _steps(price: Decimal | TieredPrices) -> Steps:
    """Return a price with its tiers."""
    if not isinstance(price, TieredPrices):
        return ((-1, Fraction(price)),)
    tiers = ((tier.start, Fraction(tier.price)) for tier in price.tiers)
    return ((-1, Fraction(price.base)), *tiers)
