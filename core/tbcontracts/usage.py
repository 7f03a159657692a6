"""Usage: the token buckets of one call, as the provider reported them.

Buckets are inclusive: input includes what was read from or written to a cache, output includes
reasoning. So `input_tokens + output_tokens` is what the call used, whatever the parts say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tbcontracts.checks import AMOUNT_MAX, cut_note, printable, shown
from tbcontracts.usage_readers import model_of, numbers_of, read_buckets

if TYPE_CHECKING:
    from fractions import Fraction

Count = str | Mapping[str, float]
"""How tokens are weighed: "total", "uncached", or a weight for each bucket."""

WEIGHT_MAX = 1_000_000
BUCKETS = ("input", "cached_input", "cache_write", "output", "reasoning")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The tokens of one call.

    `measured` is False when the provider did not say, or said nonsense; then the numbers are an
    estimate, and `raw` keeps what was said (numbers only).
    """

    input_tokens: int = 0
    """All input, including the cached part."""
    output_tokens: int = 0
    """All output, including the reasoning part."""
    cached_input_tokens: int = 0
    """The part of the input that was read from the provider's prompt cache."""
    cache_write_tokens: int = 0
    """The part of the input that was written to the provider's prompt cache."""
    reasoning_tokens: int = 0
    """The part of the output that was spent on reasoning."""
    measured: bool = True
    """Whether the provider reported these numbers."""
    raw: str | None = field(default=None, compare=False)
    """What the provider said where it could not be read; without any of its text."""
    model: str | None = field(default=None, compare=False)
    """Which model it was, as the provider calls it; at most 200 characters, none of them control
    characters."""
    cost_micro_usd: int | None = field(default=None, compare=False)
    """What it cost in millionths of a dollar, rounded up; None where nobody knows."""

    def __post_init__(self) -> None:
        """Refuse buckets that cannot be."""
        if self.model is not None:
            object.__setattr__(self, "model", model_name(self.model))
        cost = self.cost_micro_usd
        if cost is not None and (type(cost) is not int or not 0 <= cost <= AMOUNT_MAX):
            msg = "cost_micro_usd must be a whole number between 0 and "
            msg += f"{AMOUNT_MAX:,}, or None, not {shown(cost)}."
            raise ValueError(msg)
        for name in _FIELDS:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= AMOUNT_MAX:
                msg = f"{name} must be a whole number between 0 and {AMOUNT_MAX:,}, "
                msg += f"not {shown(value)}."
                raise ValueError(msg)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Add two usages bucket by bucket; the sum is measured only if both are."""
        if not isinstance(other, Usage):
            return NotImplemented
        buckets: dict[str, Any] = {
            name: min(AMOUNT_MAX, getattr(self, name) + getattr(other, name)) for name in _FIELDS
        }
        cost = None
        if self.cost_micro_usd is not None and other.cost_micro_usd is not None:
            cost = min(AMOUNT_MAX, self.cost_micro_usd + other.cost_micro_usd)
        model = self.model if self.model == other.model else None
        measured = self.measured and other.measured
        return Usage(**buckets, measured=measured, model=model, cost_micro_usd=cost)

    @classmethod
    def estimated(
        cls,
        input_tokens: int,
        output_tokens: int = 0,
        raw: str | None = None,
        *,
        model: str | None = None,
        cost_micro_usd: int | None = None,
    ) -> Usage:
        """Return an unmeasured usage: what we believe a call used that did not say."""
        return cls(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            measured=False,
            raw=raw,
            model=model,
            cost_micro_usd=cost_micro_usd,
        )

    @classmethod
    def unknown(cls, reported: object) -> Usage:
        """Return an unmeasured usage for a report that could not be read."""
        return cls(measured=False, raw=numbers_of(reported))

    @classmethod
    def read(cls, reported: object) -> Usage:
        """Read the usage that a provider or framework reported, whichever of the shapes it has.

        Knows the usage objects and mappings of OpenAI (chat completions and responses) and of what
        follows its shape (Mistral, DeepSeek, xAI), Anthropic, LangChain (`usage_metadata`),
        LiteLLM, Gemini, Bedrock and Ollama, and whole replies that hold one. Never raises.

        Args:
            reported: A `Usage`, a mapping, an object with those attributes, a reply, or None.

        Returns:
            The usage; unmeasured, with `raw`, when there was none or it made no sense. Where only
            the output was reported it is unmeasured, and has that.
        """
        if isinstance(reported, Usage):
            return reported
        read = read_buckets(reported)
        if read is None:
            return cls.unknown(reported)
        if not read.input_known:
            raw, model = numbers_of(reported), model_of(reported)
            return cls.estimated(0, read.output_tokens, raw, model=model)
        return cls(
            model=model_of(reported),
            input_tokens=read.input_tokens,
            output_tokens=read.output_tokens,
            cached_input_tokens=read.cached_input_tokens,
            cache_write_tokens=read.cache_write_tokens,
            reasoning_tokens=read.reasoning_tokens,
        )

    def weigh(self, count: Count = "total") -> int:
        """Return how much of a budget this usage takes.

        Args:
            count: "total" for all tokens, "uncached" to leave out what was read from a cache, or a
                weight for each of the buckets input, cached_input, cache_write, output, reasoning
                (a part without a weight has the weight of the whole it belongs to).

        Returns:
            A whole number, rounded up; at most 2**40, more than which no budget has.
        """
        if count == "total":
            return min(AMOUNT_MAX, self.total_tokens)
        if count == "uncached":
            uncached = max(0, self.input_tokens - self.cached_input_tokens)
            return min(AMOUNT_MAX, uncached + self.output_tokens)
        weights = _weights(count)
        plain_input = self.input_tokens - self.cached_input_tokens - self.cache_write_tokens
        parts = (
            (weights["input"], max(0, plain_input)),
            (weights["cached_input"], self.cached_input_tokens),
            (weights["cache_write"], self.cache_write_tokens),
            (weights["output"], max(0, self.output_tokens - self.reasoning_tokens)),
            (weights["reasoning"], self.reasoning_tokens),
        )
        return min(AMOUNT_MAX, math.ceil(sum(weight * tokens for weight, tokens in parts)))


_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


def model_name(value: object) -> str | None:
    """Return a model's name as it may stand on the books: the provider's words, cut; None if none.

    Control characters are written out, so that a name can be printed wherever it stands.
    """
    if not isinstance(value, str):
        return None
    return cut_note(printable(value.strip())) or None


def check_count(count: object) -> Count:
    """Return a way to count that `Usage.weigh` understands.

    Raises:
        ValueError: It is no known word, or has an unknown bucket or a bad weight.
    """
    if isinstance(count, str) and count in ("total", "uncached"):
        return count
    if isinstance(count, Mapping):
        _weights(count)
        return dict(count)
    msg = f'count must be "total", "uncached" or a weight for each bucket, not {count!r}.'
    raise ValueError(msg)


def _weights(count: object) -> dict[str, Fraction]:
    """Return a weight for every bucket; a part takes its whole's weight where it has none."""
    if not isinstance(count, Mapping):
        msg = f"count {count!r} is not known."
        raise ValueError(msg)  # noqa: TRY004 - a word that is not known is a bad value
    from fractions import Fraction  # slow to import, and most count every token once

    unknown = sorted(set(count) - set(BUCKETS), key=repr)
    if unknown:
        msg = f"count has no bucket {unknown[0]!r}; the buckets are {', '.join(BUCKETS)}."
        raise ValueError(msg)
    for bucket, weight in count.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not 0 <= weight <= WEIGHT_MAX:  # NaN fails this too
            msg = (
                f"count: the weight of {bucket!r} must be a number between 0 and {WEIGHT_MAX:,}, "
                f"not {shown(weight)}."
            )
            raise ValueError(msg)
    # By their decimal spelling: 0.1 is a tenth, not the nearest binary fraction.
    given = {bucket: Fraction(str(weight)) for bucket, weight in count.items()}
    whole_input = given.get("input", Fraction(1))
    whole_output = given.get("output", Fraction(1))
    return {
        "input": whole_input,
        "cached_input": given.get("cached_input", whole_input),
        "cache_write": given.get("cache_write", whole_input),
        "output": whole_output,
        "reasoning": given.get("reasoning", whole_output),
    }
