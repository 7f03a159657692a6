"""Usage: the token buckets of one call, as the provider reported them.

Buckets are inclusive: input includes what was read from or written to a cache, output includes
reasoning. So `input_tokens + output_tokens` is what the call used, whatever the parts say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tbcontracts.checks import AMOUNT_MAX

Count = str | Mapping[str, float]
"""How tokens are weighed: "total", "uncached", or a weight for each bucket."""

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

    def __post_init__(self) -> None:
        """Refuse buckets that cannot be."""
        for name in _FIELDS:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= AMOUNT_MAX:
                msg = f"{name} must be a whole number between 0 and {AMOUNT_MAX:,}, not {value!r}."
                raise ValueError(msg)

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        """Add two usages bucket by bucket; the sum is measured only if both are."""
        if not isinstance(other, Usage):
            return NotImplemented
        buckets = {name: getattr(self, name) + getattr(other, name) for name in _FIELDS}
        return Usage(**buckets, measured=self.measured and other.measured)

    @classmethod
    def estimated(cls, input_tokens: int, output_tokens: int = 0, raw: str | None = None) -> Usage:
        """Return an unmeasured usage: what we believe a call used that did not say."""
        return cls(input_tokens=input_tokens, output_tokens=output_tokens, measured=False, raw=raw)

    @classmethod
    def unknown(cls, reported: object) -> Usage:
        """Return an unmeasured usage for a report that could not be read."""
        return cls(measured=False, raw=_numbers_of(reported))

    @classmethod
    def read(cls, reported: object) -> Usage:
        """Read the usage that a provider or framework reported, whichever of the shapes it has.

        Knows the usage objects and mappings of OpenAI (chat completions and responses), Anthropic,
        LangChain (`usage_metadata`), LiteLLM, Gemini and Bedrock, and whole replies that hold one.

        Args:
            reported: A `Usage`, a mapping, an object with those attributes, a reply, or None.

        Returns:
            The usage; unmeasured, with `raw`, when there was none or it made no sense.
        """
        if isinstance(reported, Usage):
            return reported
        report = _find_report(reported)
        if report is None:
            return cls.unknown(reported)
        try:
            return _read_report(report)
        except (TypeError, ValueError):
            return cls.unknown(report)

    def weigh(self, count: Count = "total") -> int:
        """Return how much of a budget this usage takes.

        Args:
            count: "total" for all tokens, "uncached" to leave out what was read from a cache, or a
                weight for each of the buckets input, cached_input, cache_write, output, reasoning
                (a part without a weight has the weight of the whole it belongs to).

        Returns:
            A whole number, rounded up.
        """
        if count == "total":
            return self.total_tokens
        if count == "uncached":
            return self.total_tokens - self.cached_input_tokens
        weights = _weights(count)
        plain_input = self.input_tokens - self.cached_input_tokens - self.cache_write_tokens
        parts = (
            (weights["input"], max(0, plain_input)),
            (weights["cached_input"], self.cached_input_tokens),
            (weights["cache_write"], self.cache_write_tokens),
            (weights["output"], max(0, self.output_tokens - self.reasoning_tokens)),
            (weights["reasoning"], self.reasoning_tokens),
        )
        return math.ceil(sum(weight * tokens for weight, tokens in parts))


_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


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
    unknown = sorted(set(count) - set(BUCKETS), key=repr)
    if unknown:
        msg = f"count has no bucket {unknown[0]!r}; the buckets are {', '.join(BUCKETS)}."
        raise ValueError(msg)
    for bucket, weight in count.items():
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight < 0:
            msg = f"count: the weight of {bucket!r} must be a number from 0 up, not {weight!r}."
            raise ValueError(msg)
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


def _as_mapping(value: object) -> Mapping[str, Any] | None:
    """Return a mapping of a mapping, a pydantic model or a plain object."""
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else None
    attributes = getattr(value, "__dict__", None)
    return attributes if isinstance(attributes, dict) else None


_SIGNS = frozenset(
    (
        "prompt_tokens",
        "input_tokens",
        "output_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_token_count",
        "promptTokenCount",
        "inputTokens",
    )
)


def _find_report(value: object) -> Mapping[str, Any] | None:
    """Find the usage report in a usage object or in the reply that holds one."""
    if value is None or isinstance(value, (str, bytes, int, float, list, tuple)):
        return None
    for name in ("usage_metadata", "usageMetadata", "usage", "token_usage"):
        inner = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if inner is not None and not callable(inner):
            found = _as_mapping(inner)
            if found is not None and not _SIGNS.isdisjoint(found):
                return found
    report = _as_mapping(value)
    return report if report is not None and not _SIGNS.isdisjoint(report) else None


def _read_report(report: Mapping[str, Any]) -> Usage:
    """Read one report by the names that it uses."""
    if "prompt_token_count" in report or "promptTokenCount" in report:
        return _read_gemini(report)
    if "inputTokens" in report:
        return _read_bedrock(report)
    if "prompt_tokens" in report or "completion_tokens" in report:
        return _read_openai_chat(report)
    if "input_tokens" in report and (
        "cache_read_input_tokens" in report or "cache_creation_input_tokens" in report
    ):
        return _read_anthropic(report)
    return _read_plain(report)


def _number(report: Mapping[str, Any], *names: str) -> int:
    """Return the first of these that is there; absent and None are 0.

    Raises:
        TypeError: It is there and no whole number.
    """
    for name in names:
        value = report.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            msg = f"{name} is no whole number"
            raise TypeError(msg)
        return value
    return 0


def _details(report: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the first of these inner mappings that is there."""
    for name in names:
        found = report.get(name)
        if found is not None:
            mapping = _as_mapping(found)
            if mapping is not None:
                return mapping
    return {}


def _made(
    input_tokens: int,
    output_tokens: int,
    *,
    total: int = 0,
    cached_input_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
) -> Usage:
    """Make a measured usage; all zero means that the provider did not say.

    Where a total is larger than its parts (some providers leave reasoning out of the output), the
    difference is output: the total is what is billed.
    """
    if input_tokens == output_tokens == total == 0:
        msg = "no tokens reported"
        raise ValueError(msg)
    if not input_tokens and not output_tokens:
        input_tokens = total
    elif total > input_tokens + output_tokens:
        output_tokens = total - input_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached_input_tokens,
        cache_write_tokens=cache_write_tokens,
        reasoning_tokens=reasoning_tokens,
    )


def _read_openai_chat(report: Mapping[str, Any]) -> Usage:
    """OpenAI chat completions; also LiteLLM and CrewAI, whose flat names stand beside."""
    inner = _details(report, "prompt_tokens_details")
    return _made(
        _number(report, "prompt_tokens"),
        _number(report, "completion_tokens"),
        total=_number(report, "total_tokens"),
        cached_input_tokens=_number(inner, "cached_tokens")
        or _number(report, "cached_prompt_tokens", "cache_read_input_tokens"),
        cache_write_tokens=_number(inner, "cache_creation_tokens", "cache_write_tokens")
        or _number(report, "cache_creation_tokens", "cache_creation_input_tokens"),
        reasoning_tokens=_number(_details(report, "completion_tokens_details"), "reasoning_tokens")
        or _number(report, "reasoning_tokens"),
    )


def _read_anthropic(report: Mapping[str, Any]) -> Usage:
    """Anthropic's own report: its input leaves out what the cache read and wrote."""
    cached = _number(report, "cache_read_input_tokens")
    written = _number(report, "cache_creation_input_tokens")
    return _made(
        _number(report, "input_tokens") + cached + written,
        _number(report, "output_tokens"),
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


def _read_plain(report: Mapping[str, Any]) -> Usage:
    """OpenAI responses, LangChain's `usage_metadata` and anything with the same inclusive names."""
    input_parts = _details(report, "input_token_details", "input_tokens_details")
    output_parts = _details(report, "output_token_details", "output_tokens_details")
    return _made(
        _number(report, "input_tokens"),
        _number(report, "output_tokens"),
        total=_number(report, "total_tokens"),
        cached_input_tokens=_number(input_parts, "cache_read", "cached_tokens")
        or _number(report, "cached_prompt_tokens"),
        cache_write_tokens=_number(input_parts, "cache_creation", "cache_write_tokens")
        or _number(report, "cache_creation_tokens"),
        reasoning_tokens=_number(output_parts, "reasoning", "reasoning_tokens")
        or _number(report, "reasoning_tokens"),
    )


def _read_gemini(report: Mapping[str, Any]) -> Usage:
    """Gemini: thoughts stand beside the candidates, tool results beside the prompt."""
    thoughts = _number(report, "thoughts_token_count", "thoughtsTokenCount", "reasoning_tokens")
    candidates = _number(report, "candidates_token_count", "candidatesTokenCount")
    # CrewAI adds completion_tokens, which includes the thoughts already.
    output = _number(report, "completion_tokens") or candidates + thoughts
    tool_input = _number(report, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    return _made(
        _number(report, "prompt_token_count", "promptTokenCount") + tool_input,
        output,
        total=_number(report, "total_token_count", "totalTokenCount", "total_tokens"),
        cached_input_tokens=_number(
            report,
            "cached_content_token_count",
            "cachedContentTokenCount",
            "cached_prompt_tokens",
        ),
        reasoning_tokens=thoughts,
    )


def _read_bedrock(report: Mapping[str, Any]) -> Usage:
    """Bedrock Converse: whether input includes the cache is told by the total."""
    given, output = _number(report, "inputTokens"), _number(report, "outputTokens")
    cached = _number(report, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _number(report, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    total = _number(report, "totalTokens")
    inclusive = total == given + output and cached + written <= given
    return _made(
        given if inclusive else given + cached + written,
        output,
        cached_input_tokens=cached,
        cache_write_tokens=written,
    )


def _numbers_of(reported: object) -> str | None:
    """Show a report that could not be read: its keys and numbers, never its text."""
    if reported is None:
        return None
    mapping = _as_mapping(reported)
    if mapping is None:
        shown = repr(reported) if isinstance(reported, (int, float)) else type(reported).__name__
    else:
        shown = repr({str(key): _number_or_type(value) for key, value in mapping.items()})
    return shown[:200]


def _number_or_type(value: object) -> object:
    """Keep numbers, bools and None; of everything else only the type."""
    return value if value is None or isinstance(value, (int, float)) else type(value).__name__
