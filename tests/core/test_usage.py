"""Usage: every shape a provider reports it in, and what is done with nonsense."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbcontracts import BudgetManager, Usage
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
        {"prompt_tokens": 2**40, "completion_tokens": 2**40},
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 10**30},
        {"prompt_tokens": float("inf"), "completion_tokens": 5},
        {"prompt_tokens": 10.5, "completion_tokens": 5},
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": -5},
        },
        {"prompt_tokens": 10, "completion_tokens": None},
        {"input_tokens": 10, "output_tokens": None, "cache_read_input_tokens": 5},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_eval_count": 26, "eval_count": None},
        {"usage": None},
        {"usage": {"prompt": "a text"}},
        [{"input_tokens": 3, "output_tokens": 4}],
        7,
        {"tokens": 5},
        object(),
    ],
    ids=lambda report: type(report).__name__ if type(report) is object else repr(report)[:90],
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


def test_raw_shows_the_report_inside_the_reply() -> None:
    """Of a whole reply only the part that reports is kept, one level down, and in bounds."""
    details = {"cached_tokens": -5, "note": "secret"}
    reply = {"text": "secret", "usage": {"prompt_tokens": 3, "prompt_tokens_details": details}}
    assert Usage.read(reply).raw == (
        "{'prompt_tokens': 3, 'prompt_tokens_details': {'cached_tokens': -5, 'note': 'str'}}"
    )
    crowded = {"total_tokens": -1, **{f"field_{number}": number for number in range(500)}}
    assert len(Usage.read(crowded).raw or "") == 200


@pytest.mark.parametrize(
    "secret", ["my secret", "secret-key", "secret\n", "secret" * 10, b"secret", ("secret",)]
)
def test_raw_keeps_no_text_that_stands_where_a_name_should(secret: object) -> None:
    """A prompt may come as a key of what a function returns; only field names are kept."""
    usage = Usage.read({"total_tokens": -1, secret: 5, "inner": {secret: {secret: secret}}})
    assert usage.raw is not None
    assert "secret" not in usage.raw
    assert Usage.read(secret).raw in ("str", "bytes", "tuple")


class Breaks:
    """A reply that breaks when it is looked at."""

    def __getattr__(self, name: str) -> object:
        """Fail, with a text that must not get anywhere."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(f"secret: {name}")


class BreaksLater:
    """A model that cannot be dumped."""

    def model_dump(self) -> dict[str, object]:
        """Fail."""
        raise ValueError("secret")


@pytest.mark.parametrize("reply", [Breaks(), BreaksLater(), {"usage": BreaksLater()}, Breaks, type])
def test_a_reply_that_breaks_is_unmeasured(reply: object) -> None:
    """Reading a usage never raises: the call is over, and its charge must not be lost."""
    usage = Usage.read(reply)
    assert not usage.measured
    assert "secret" not in str(usage.raw)


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


numbers: st.SearchStrategy[object] = st.one_of(
    st.integers(-5, 2_000),
    st.sampled_from([None, True, float("nan"), float("inf"), 3.0, 3.5, "7", 2**41, [], {}]),
)
reports = st.dictionaries(
    st.sampled_from(
        [
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "promptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "totalTokenCount",
            "inputTokens",
            "outputTokens",
            "cacheReadInputTokens",
            "totalTokens",
            "prompt_eval_count",
            "eval_count",
            "reasoning_tokens",
        ]
    ),
    numbers,
)


@given(report=reports, cached=numbers, reasoning=numbers)
def test_whatever_is_reported_the_parts_lie_in_the_whole(
    report: dict[str, object], cached: object, reasoning: object
) -> None:
    """No report, however contradictory, raises, goes below 0, or has parts above their whole."""
    report["prompt_tokens_details"] = {"cached_tokens": cached}
    report["output_token_details"] = {"reasoning": reasoning}
    usage = Usage.read(report)
    if not usage.measured:  # at most its output was reported, as Ollama does
        assert usage.input_tokens == 0
        assert usage.output_tokens in (0, report.get("eval_count"))
        return
    assert usage.total_tokens > 0
    assert usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    for count in ("total", "uncached"):
        assert 0 <= usage.weigh(count) <= usage.total_tokens


def test_weights() -> None:
    """`count` decides what a bucket takes of a budget; fractions are rounded up."""
    usage = Usage(input_tokens=100, output_tokens=10, cached_input_tokens=60, reasoning_tokens=4)
    assert usage.weigh() == 110
    assert usage.weigh("uncached") == 50
    assert usage.weigh({"cached_input": 0.1}) == 56
    assert usage.weigh({"output": 4, "reasoning": 0}) == 124
    assert usage.weigh({"input": 0, "output": 0.05}) == 1


def test_weights_are_exact() -> None:
    """A tenth is a tenth: binary fractions do not cost a token more, or less."""
    assert Usage(input_tokens=10).weigh({"input": 0.1}) == 1
    assert Usage(input_tokens=1_000_000_000_000).weigh({"input": 0.3}) == 300_000_000_000
    assert Usage(input_tokens=3).weigh({"input": 1 / 3}) == 1
    assert Usage(output_tokens=1).weigh({"output": 1e-9}) == 1
    assert Usage().weigh({"input": 5}) == 0


def test_parts_larger_than_their_whole_never_weigh_less_than_nothing() -> None:
    """A usage made by hand may contradict itself; it still takes something of the budget."""
    usage = Usage(input_tokens=10, output_tokens=5, cached_input_tokens=50, reasoning_tokens=40)
    assert usage.weigh("uncached") == 5
    assert usage.weigh({"cached_input": 0.1}) == 45
    assert usage.weigh({"reasoning": 2}) == 130


def test_what_weighs_more_than_any_budget_can_still_be_posted() -> None:
    """The largest usage at the largest weight stays a number that the books take: never lost."""
    largest = Usage(input_tokens=2**40, output_tokens=2**40)
    for count in ("total", "uncached", {"output": 1_000_000}):
        assert largest.weigh(check_count(count)) == 2**40
    assert (largest + largest).input_tokens == 2**40
    manager = BudgetManager(count={"output": 1_000_000})
    manager.register_agent("writer", max_tokens=100)
    hold = manager.reserve("writer", 50)
    assert hold.settle(Usage(output_tokens=2**40)).amount == 2**40
    assert manager.accounts()["writer"].overdraft == 2**40 - 100


@pytest.mark.parametrize(
    "count",
    [
        "all",
        {"inputs": 1},
        {"input": -1},
        {"input": float("nan")},
        3,
        {"input": "1"},
        {"input": None},
        {"input": True},
        {1: 2},
        {"input": 10**7},
        {"input": 10**400},
    ],
)
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
