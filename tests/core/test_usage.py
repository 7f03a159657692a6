"""Usage: every shape a provider reports it in, and what is done with nonsense."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tbcontracts import Usage
from tbcontracts.usage import check_count


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


@pytest.mark.parametrize(
    "report",
    [
        None,
        {},
        "12 tokens",
        {"total_tokens": 0},
        {"input_tokens": -3, "output_tokens": 5},
        {"input_tokens": float("nan"), "output_tokens": 5},
        {"input_tokens": True, "output_tokens": 5},
        {"prompt_tokens": "many", "completion_tokens": 5},
        {"prompt_tokens": 2**60, "completion_tokens": 5},
        {"tokens": 5},
        object(),
    ],
    ids=lambda report: type(report).__name__ if type(report) is object else repr(report),
)
def test_nonsense_is_unmeasured_never_zero_cost(report: object) -> None:
    """What cannot be read is unmeasured: unknown is not the same as free."""
    usage = Usage.read(report)
    assert not usage.measured
    assert usage.total_tokens == 0


def test_raw_keeps_numbers_and_no_text() -> None:
    """A report that could not be read is kept for diagnosis, without any of its text."""
    usage = Usage.read({"input_tokens": -3, "prompt": "my secret"})
    assert usage.raw == "{'input_tokens': -3, 'prompt': 'str'}"


def test_weights() -> None:
    """`count` decides what a bucket takes of a budget; fractions are rounded up."""
    usage = Usage(input_tokens=100, output_tokens=10, cached_input_tokens=60, reasoning_tokens=4)
    assert usage.weigh() == 110
    assert usage.weigh("uncached") == 50
    assert usage.weigh({"cached_input": 0.1}) == 56
    assert usage.weigh({"output": 4, "reasoning": 0}) == 124
    assert usage.weigh({"input": 0, "output": 0.05}) == 1


@pytest.mark.parametrize("count", ["all", {"inputs": 1}, {"input": -1}, {"input": float("nan")}, 3])
def test_unknown_counts_are_refused(count: object) -> None:
    """A way to count that does not exist is an error at the door, with the ones that do."""
    with pytest.raises(ValueError, match="count"):
        check_count(count)


def test_sum_is_measured_only_if_all_parts_are() -> None:
    """Usages add up bucket by bucket; one estimate makes the sum an estimate."""
    measured = Usage(input_tokens=3, output_tokens=4)
    assert (measured + measured).measured
    total = measured + Usage.estimated(10, 20)
    assert (total.input_tokens, total.output_tokens, total.measured) == (13, 24, False)


@pytest.mark.parametrize("bad", [-1, 2**41, True, 1.5, "7"])
def test_buckets_are_checked(bad: object) -> None:
    """A usage made by hand has whole, bounded numbers."""
    with pytest.raises(ValueError, match="input_tokens must be a whole number"):
        Usage(input_tokens=bad)  # type: ignore[arg-type]
