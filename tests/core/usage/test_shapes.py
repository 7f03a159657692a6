"""Usage: every shape a provider reports it in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tbcontracts import Usage


def buckets(usage: Usage) -> tuple[int, int, int, int, int]:
    """Return input, output, cached, written, reasoning."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


SHAPES = {
    "openai chat": (
        {
            "prompt_tokens": 110,
            "completion_tokens": 70,
            "total_tokens": 180,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        (110, 70, 40, 0, 20),
    ),
    "openai responses": (
        {
            "input_tokens": 110,
            "output_tokens": 70,
            "total_tokens": 180,
            "input_tokens_details": {"cached_tokens": 40},
            "output_tokens_details": {"reasoning_tokens": 20},
        },
        (110, 70, 40, 0, 20),
    ),
    "anthropic": (
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 90,
            "cache_creation_input_tokens": 5,
            "output_tokens": 7,
        },
        (105, 7, 90, 5, 0),
    ),
    "langchain": (
        {
            "input_tokens": 11,
            "output_tokens": 7,
            "total_tokens": 18,
            "input_token_details": {"cache_read": 4, "cache_creation": 1},
            "output_token_details": {"reasoning": 2},
        },
        (11, 7, 4, 1, 2),
    ),
    "gemini": (
        {
            "prompt_token_count": 100,
            "candidates_token_count": 30,
            "thoughts_token_count": 12,
            "cached_content_token_count": 60,
            "total_token_count": 142,
        },
        (100, 42, 60, 0, 12),
    ),
    "gemini over REST": (
        {"promptTokenCount": 100, "candidatesTokenCount": 30, "totalTokenCount": 130},
        (100, 30, 0, 0, 0),
    ),
    "bedrock, cache beside the input": (
        {
            "inputTokens": 10,
            "outputTokens": 7,
            "cacheReadInputTokens": 90,
            "cacheWriteInputTokens": 5,
            "totalTokens": 112,
        },
        (105, 7, 90, 5, 0),
    ),
    "bedrock, cache in the input": (
        {"inputTokens": 100, "outputTokens": 7, "cacheReadInputTokens": 90, "totalTokens": 107},
        (100, 7, 90, 0, 0),
    ),
    "litellm for anthropic": (
        {
            "prompt_tokens": 105,
            "completion_tokens": 7,
            "total_tokens": 112,
            "cache_read_input_tokens": 90,
            "cache_creation_input_tokens": 5,
        },
        (105, 7, 90, 5, 0),
    ),
    "crewai": (
        {
            "prompt_tokens": 50,
            "completion_tokens": 9,
            "total_tokens": 59,
            "cached_prompt_tokens": 30,
            "reasoning_tokens": 4,
        },
        (50, 9, 30, 0, 4),
    ),
    "reasoning left out of the output": (
        {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 79},
        (50, 29, 0, 0, 0),
    ),
    "mistral": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_audio": None},
        (10, 5, 0, 0, 0),
    ),
    "deepseek": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_cache_hit_tokens": 60,
            "prompt_cache_miss_tokens": 40,
            "completion_tokens_details": {"reasoning_tokens": 8},
        },
        (100, 20, 60, 0, 8),
    ),
    "xai, reasoning beside the output": (
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "prompt_tokens_details": {"cached_tokens": 6},
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 103, 6, 0, 94),
    ),
    "ollama": (
        {
            "model": "x",
            "done": True,
            "prompt_eval_count": 26,
            "eval_count": 298,
            "load_duration": 5,
        },
        (26, 298, 0, 0, 0),
    ),
    "anthropic, cache unused": (
        {"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 7},
        (10, 7, 0, 0, 0),
    ),
    "anthropic, the last piece of a stream": ({"output_tokens": 7}, (0, 7, 0, 0, 0)),
    "langchain for anthropic, cache written for an hour": (
        {
            "input_tokens": 118,
            "output_tokens": 7,
            "total_tokens": 125,
            "input_token_details": {
                "cache_read": 3,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 60,
                "ephemeral_1h_input_tokens": 40,
            },
        },
        (118, 7, 3, 100, 0),
    ),
    "gemini with tool results": (
        {
            "prompt_token_count": 100,
            "tool_use_prompt_token_count": 20,
            "candidates_token_count": 5,
            "total_token_count": 125,
        },
        (120, 5, 0, 0, 0),
    ),
    "gemini without its prompt": (
        {"candidatesTokenCount": 5, "totalTokenCount": 105},
        (100, 5, 0, 0, 0),
    ),
    "gemini, stopped while it thought": (
        {"promptTokenCount": 100, "thoughtsTokenCount": 12, "totalTokenCount": 112},
        (100, 12, 0, 0, 12),
    ),
    "bedrock invoke": ({"inputTokenCount": 11, "outputTokenCount": 2}, (11, 2, 0, 0, 0)),
    "bedrock without its input": ({"outputTokens": 5, "totalTokens": 12}, (7, 5, 0, 0, 0)),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0, 0, 0)),
    "output None beside a total": (
        {"prompt_tokens": 10, "completion_tokens": None, "total_tokens": 16},
        (10, 6, 0, 0, 0),
    ),
    "more cached than input": (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 50},
        },
        (60, 5, 50, 0, 0),
    ),
    "more cached than input, and a total": (
        {
            "input_tokens": 10,
            "output_tokens": 5,
            "total_tokens": 65,
            "input_token_details": {"cache_read": 50},
        },
        (60, 5, 50, 0, 0),
    ),
    "a total below its parts": (
        {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 120},
        (100, 50, 0, 0, 0),
    ),
    "only a total": ({"total_tokens": 79}, (79, 0, 0, 0, 0)),
    "whole floats": ({"input_tokens": 11.0, "output_tokens": 7.0}, (11, 7, 0, 0, 0)),
}


@pytest.mark.parametrize(("report", "expected"), SHAPES.values(), ids=SHAPES)
def test_reads_every_shape(report: dict[str, object], expected: tuple[int, ...]) -> None:
    """Each provider's report is read into inclusive buckets, as mapping and as object."""
    usage = Usage.read(report)
    assert buckets(usage) == expected
    assert usage.measured
    nested = {
        key: SimpleNamespace(**value) if isinstance(value, dict) else value
        for key, value in report.items()
    }
    assert Usage.read(SimpleNamespace(usage=SimpleNamespace(**nested))) == usage
    assert Usage.read({"id": "reply-1", "usage": report}) == usage


def test_numbers_of_other_libraries_are_numbers() -> None:
    """What can be used as an index is a whole number, as NumPy's integers are."""

    class Seven:
        def __index__(self) -> int:
            return 7

    assert buckets(Usage.read({"input_tokens": Seven(), "output_tokens": Seven()}))[:2] == (7, 7)


def test_pydantic_models_and_real_clients_objects_are_read() -> None:
    """The objects of the OpenAI client, LiteLLM and LangChain are read as they are."""
    from langchain_core.messages import AIMessage
    from openai.types import CompletionUsage
    from openai.types.completion_usage import PromptTokensDetails

    expected = (110, 70, 40, 0, 0)
    openai = CompletionUsage(
        prompt_tokens=110,
        completion_tokens=70,
        total_tokens=180,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=40),
    )
    assert buckets(Usage.read(openai)) == expected
    message = AIMessage(
        "Hello.",
        usage_metadata={
            "input_tokens": 110,
            "output_tokens": 70,
            "total_tokens": 180,
            "input_token_details": {"cache_read": 40},
        },
    )
    assert buckets(Usage.read(message)) == expected
