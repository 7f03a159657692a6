"""Usage that is nonsense, or breaks when it is read: unmeasured, and never zero cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbcontracts import Usage


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
