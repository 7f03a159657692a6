"""Reads what providers and frameworks report of a call's tokens, each in its own shape.

Every reader returns inclusive buckets. Where a report names parts that are larger than their whole,
they cannot lie in it: they stand beside it and are added, as Anthropic's cache and xAI's reasoning
do.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from tbcontracts.checks import AMOUNT_MAX

_RAW_CHARACTERS_MAX = 200
_NAME_CHARACTERS_MAX = 40


class Buckets(NamedTuple):
    """The tokens of one call; input and output include their parts."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    input_known: bool = True
    """False where only the output was reported."""


def read_buckets(reported: object) -> Buckets | None:
    """Return what was reported, or None if nothing was, or nothing that can be.

    It never raises: a report that breaks while it is read is one that cannot be read.
    """
    try:
        report = _find_report(reported)
        return None if report is None else _read_report(report)
    except Exception:  # whatever a reply of unknown make may do
        return None


def model_of(reported: object) -> str | None:
    """Return the model that a reply says it is from; None where it says none. It never raises."""
    try:
        for holder in (reported, _inner(reported, "response_metadata")):
            for name in _MODELS:
                found = _inner(holder, name)
                if isinstance(found, str) and found:
                    return found
    except Exception:  # as above
        return None
    return None


def _inner(holder: object, name: str) -> object:
    """Return what stands under a name in a mapping or on an object; None if nothing."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def numbers_of(reported: object) -> str | None:
    """Show a report that could not be read: its field names and numbers, never its text."""
    if reported is None:
        return None
    try:
        mapping = _find_report(reported) or _as_mapping(reported)
        shown = _numbers_in(mapping) if mapping is not None else _number_or_type(reported)
    except Exception:  # as above
        shown = type(reported).__name__
    return (shown if isinstance(shown, str) else repr(shown))[:_RAW_CHARACTERS_MAX]


def _numbers_in(mapping: Mapping[Any, Any], depth: int = 0) -> dict[str, object]:
    """Return the numbers of a mapping and of the mappings in it, by names that are field names."""
    shown: dict[str, object] = {}
    for name, value in mapping.items():
        if not isinstance(name, str) or not name.isidentifier() or len(name) > _NAME_CHARACTERS_MAX:
            continue  # a sentence may stand where a name should
        inner = _as_mapping(value) if depth == 0 else None
        shown[name] = _number_or_type(value) if inner is None else _numbers_in(inner, depth + 1)
    return shown


def _number_or_type(value: object) -> object:
    """Keep numbers, bools and None; of everything else only the type."""
    return value if value is None or isinstance(value, (int, float)) else type(value).__name__


def _as_mapping(value: object) -> Mapping[str, Any] | None:
    """Return a mapping of a mapping, a pydantic model or a plain object."""
    if isinstance(value, Mapping):
        return value
    if value is None or isinstance(value, (str, bytes, int, float, list, tuple, type)):
        return None
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        dumped = dump()
        return dumped if isinstance(dumped, Mapping) else None
    attributes = getattr(value, "__dict__", None)
    return attributes if isinstance(attributes, dict) else None


# The names that tell one shape from another.
_GEMINI = frozenset(
    (
        "prompt_token_count",
        "promptTokenCount",
        "candidates_token_count",
        "candidatesTokenCount",
        "total_token_count",
        "totalTokenCount",
    )
)
_BEDROCK = frozenset(("inputTokens", "outputTokens", "inputTokenCount", "outputTokenCount"))
_OLLAMA = frozenset(("prompt_eval_count", "eval_count"))
_OPENAI_CHAT = frozenset(("prompt_tokens", "completion_tokens"))
_ANTHROPIC = frozenset(("cache_read_input_tokens", "cache_creation_input_tokens"))
_PLAIN = frozenset(("input_tokens", "output_tokens", "total_tokens"))
_SIGNS = _GEMINI | _BEDROCK | _OLLAMA | _OPENAI_CHAT | _PLAIN
_MODELS = ("model_name", "model", "model_version", "modelVersion", "modelId")
"""Under which of these a reply has the name of its model."""
_HOLDERS = (
    "usage_metadata",
    "usageMetadata",
    "usage",
    "token_usage",
    "amazon-bedrock-invocationMetrics",
)


def _find_report(value: object) -> Mapping[str, Any] | None:
    """Find the usage report in a usage object or in the reply that holds one."""
    if value is None or isinstance(value, (str, bytes, int, float, list, tuple)):
        return None
    for name in _HOLDERS:
        inner = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
        if inner is not None and not callable(inner):
            found = _as_mapping(inner)
            if found is not None and not _SIGNS.isdisjoint(found):
                return found
    report = _as_mapping(value)
    return report if report is not None and not _SIGNS.isdisjoint(report) else None


def _read_report(report: Mapping[str, Any]) -> Buckets:
    """Read one report by the names that it uses."""
    names = report.keys()
    if not _GEMINI.isdisjoint(names):
        return _read_gemini(report)
    if not _BEDROCK.isdisjoint(names):
        return _read_bedrock(report)
    if not _OPENAI_CHAT.isdisjoint(names):
        return _read_openai_chat(report)
    if not _OLLAMA.isdisjoint(names):
        return _read_ollama(report)
    if "input_tokens" in report and not _ANTHROPIC.isdisjoint(names):
        return _read_anthropic(report)
    return _read_plain(report)


def _read_openai_chat(report: Mapping[str, Any]) -> Buckets:
    """OpenAI chat completions, Mistral, DeepSeek, xAI; LiteLLM and CrewAI add flat names."""
    inner = _details(report, "prompt_tokens_details")
    return _made(
        _number(report, "prompt_tokens"),
        _number(report, "completion_tokens"),
        total=_number(report, "total_tokens"),
        output_known=_is_known(report, "completion_tokens"),
        cached=_number(inner, "cached_tokens")
        or _number(
            report, "cached_prompt_tokens", "cache_read_input_tokens", "prompt_cache_hit_tokens"
        ),
        written=_number(inner, "cache_creation_tokens", "cache_write_tokens")
        or _number(report, "cache_creation_tokens", "cache_creation_input_tokens"),
        reasoning=_number(_details(report, "completion_tokens_details"), "reasoning_tokens")
        or _number(report, "reasoning_tokens"),
    )


def _read_anthropic(report: Mapping[str, Any]) -> Buckets:
    """Anthropic's own report: its input leaves out what the cache read and wrote."""
    cached = _number(report, "cache_read_input_tokens")
    written = _number(report, "cache_creation_input_tokens")
    return _made(
        _number(report, "input_tokens") + cached + written,
        _number(report, "output_tokens"),
        output_known=_is_known(report, "output_tokens"),
        cached=cached,
        written=written,
    )


def _read_plain(report: Mapping[str, Any]) -> Buckets:
    """OpenAI responses, LangChain's `usage_metadata` and anything with the same inclusive names."""
    input_parts = _details(report, "input_token_details", "input_tokens_details")
    output_parts = _details(report, "output_token_details", "output_tokens_details")
    # LangChain puts Anthropic's cache writes under the time they live, and 0 for their sum.
    by_lifetime = _number(input_parts, "ephemeral_5m_input_tokens") + _number(
        input_parts, "ephemeral_1h_input_tokens"
    )
    return _made(
        _number(report, "input_tokens"),
        _number(report, "output_tokens"),
        total=_number(report, "total_tokens"),
        output_known=_is_known(report, "output_tokens"),
        cached=_number(input_parts, "cache_read", "cached_tokens")
        or _number(report, "cached_prompt_tokens"),
        written=_number(input_parts, "cache_creation", "cache_write_tokens")
        or by_lifetime
        or _number(report, "cache_creation_tokens"),
        reasoning=_number(output_parts, "reasoning", "reasoning_tokens")
        or _number(report, "reasoning_tokens"),
    )


def _read_gemini(report: Mapping[str, Any]) -> Buckets:
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
        cached=_number(
            report,
            "cached_content_token_count",
            "cachedContentTokenCount",
            "cached_prompt_tokens",
        ),
        reasoning=thoughts,
    )


def _read_bedrock(report: Mapping[str, Any]) -> Buckets:
    """Bedrock's Converse and Invoke: whether input includes the cache is told by the total."""
    given = _number(report, "inputTokens", "inputTokenCount")
    output = _number(report, "outputTokens", "outputTokenCount")
    cached = _number(report, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _number(report, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    total = _number(report, "totalTokens")
    inclusive = total == given + output and cached + written <= given
    return _made(
        given if inclusive or not given else given + cached + written,
        output,
        total=total,
        output_known=_is_known(report, "outputTokens") and _is_known(report, "outputTokenCount"),
        cached=cached,
        written=written,
    )


def _read_ollama(report: Mapping[str, Any]) -> Buckets:
    """Ollama leaves the prompt's count out where it had the prompt in its cache."""
    prompt = _number(report, "prompt_eval_count")
    output_known = _is_known(report, "eval_count")
    read = _made(prompt, _number(report, "eval_count"), output_known=output_known)
    return read._replace(input_known=bool(prompt))


def _number(report: Mapping[str, Any], *names: str) -> int:
    """Return the first of these that is there; absent and None are 0.

    Raises:
        TypeError: It is there and no whole number.
        ValueError: It is negative.
    """
    for name in names:
        value = report.get(name)
        if value is None:
            continue
        whole: Any = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool):
            msg = f"{name} is no whole number"
            raise TypeError(msg)
        number = operator.index(whole)
        if number < 0:
            msg = f"{name} is negative"
            raise ValueError(msg)
        return number
    return 0


def _is_known(report: Mapping[str, Any], name: str) -> bool:
    """Return whether a report does not say of a number that it is unknown; absent means none."""
    return name not in report or report[name] is not None


def _details(report: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the first of these inner mappings that is there."""
    for name in names:
        found = _as_mapping(report.get(name))
        if found is not None:
            return found
    return {}


def _made(
    input_tokens: int,
    output_tokens: int,
    *,
    total: int = 0,
    output_known: bool = True,
    cached: int = 0,
    written: int = 0,
    reasoning: int = 0,
) -> Buckets:
    """Make inclusive buckets; all zero, and an output that is None, mean: the provider did not say.

    Where a total is larger than its parts, the difference belongs to the side that was left out,
    else to the output (some providers leave reasoning out of it): the total is what is billed.

    Raises:
        ValueError: Nothing was reported, or more than can be.
    """
    if not (input_tokens or output_tokens or total) or not (output_known or total):
        msg = "no tokens reported"
        raise ValueError(msg)
    if cached + written > input_tokens:
        input_tokens += cached + written
    if reasoning > output_tokens:
        output_tokens += reasoning
    missing = max(0, total - input_tokens - output_tokens)
    if input_tokens:
        output_tokens += missing
    else:
        input_tokens = missing
    if input_tokens + output_tokens > AMOUNT_MAX:
        msg = "more tokens reported than there can be"
        raise ValueError(msg)
    return Buckets(input_tokens, output_tokens, cached, written, reasoning)
