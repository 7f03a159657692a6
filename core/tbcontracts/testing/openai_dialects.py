"""How the providers that speak OpenAI's format differ: their usage, reasoning and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tbcontracts.testing.wire import Reply


def _counts(reply: Reply) -> dict[str, Any]:
    """Return what all of them report."""
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.total_tokens,
    }


def _openai(reply: Reply) -> dict[str, Any]:
    return {
        **_counts(reply),
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _deepseek(reply: Reply) -> dict[str, Any]:
    return {
        **_counts(reply),
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        "prompt_cache_hit_tokens": reply.cached_tokens,
        "prompt_cache_miss_tokens": reply.input_tokens - reply.cached_tokens,
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
    }


def _groq(reply: Reply) -> dict[str, Any]:
    times = dict.fromkeys(("queue_time", "prompt_time", "completion_time", "total_time"), 0.01)
    usage = {**_counts(reply), **times}
    if reply.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
    if reply.reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": reply.reasoning_tokens}
    return usage


def _mistral(reply: Reply) -> dict[str, Any]:
    return {**_counts(reply), "num_cached_tokens": reply.cached_tokens}


def _openrouter(reply: Reply) -> dict[str, Any]:
    return {
        **_counts(reply),
        "cost": 0.0001,
        "is_byok": False,
        "cost_details": {"upstream_inference_cost": None},
        "prompt_tokens_details": {
            "cached_tokens": reply.cached_tokens,
            "cache_write_tokens": reply.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
    }


def _vllm(reply: Reply) -> dict[str, Any]:
    cached = {"cached_tokens": reply.cached_tokens} if reply.cached_tokens else None
    return {**_counts(reply), "prompt_tokens_details": cached}


def _litellm(reply: Reply) -> dict[str, Any]:
    # As the proxy passes on what Anthropic reports: the input has the cache in it already.
    return {
        **_openai(reply),
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": reply.cache_write_tokens,
    }


class Dialect(NamedTuple):
    """One provider's way to speak OpenAI's format."""

    usage: Callable[[Reply], dict[str, Any]]
    """What it reports of an answer."""
    base_path: str = "/v1"
    """The path below which its clients look for it."""
    unasked: bool = False
    """Whether a stream brings its usage without being asked to."""
    usage_at: str = "after"
    """Where in a stream: "after" the last choice, in the "last" chunk, or as "x_groq" in it."""
    thoughts: str | None = None
    """The field in which it shows what was thought; "blocks" for Mistral's, in the content."""
    filters: bool = False
    """Whether a stream begins with a chunk of what was filtered, as Azure's does."""


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(_openai),
    "azure": Dialect(_openai, base_path="", filters=True),
    "deepseek": Dialect(_deepseek, thoughts="reasoning_content"),
    "groq": Dialect(_groq, base_path="", unasked=True, usage_at="x_groq", thoughts="reasoning"),
    "litellm": Dialect(_litellm, base_path="", thoughts="reasoning_content"),
    "mistral": Dialect(_mistral, unasked=True, usage_at="last", thoughts="blocks"),
    "openrouter": Dialect(_openrouter, base_path="/api/v1", unasked=True, thoughts="reasoning"),
    "vllm": Dialect(_vllm, thoughts="reasoning_content"),
}
