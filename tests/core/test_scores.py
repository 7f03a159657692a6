"""Scores from log probabilities, in the shapes that providers and LangChain have."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from tbcontracts.scores import mean_token_probability, score_source

TOKENS = [{"token": "a", "logprob": math.log(0.5)}, {"token": "b", "logprob": math.log(1.0)}]
CHAT = {"choices": [{"message": {"content": "ab"}, "logprobs": {"content": TOKENS}}]}


@pytest.mark.parametrize(
    "reply",
    [
        CHAT,
        SimpleNamespace(
            choices=[
                SimpleNamespace(
                    logprobs=SimpleNamespace(
                        content=[SimpleNamespace(logprob=math.log(p)) for p in (0.5, 1.0)]
                    )
                )
            ]
        ),
        SimpleNamespace(content="ab", response_metadata={"logprobs": {"content": TOKENS}}),
        {"output": [{"type": "message", "content": [{"text": "ab", "logprobs": TOKENS}]}]},
        {"messages": [None, SimpleNamespace(response_metadata={"logprobs": {"content": TOKENS}})]},
    ],
    ids=["chat mapping", "chat object", "langchain", "responses", "graph update"],
)
def test_the_mean_probability_of_the_chosen_tokens(reply: Any) -> None:
    """The score is the mean of the probabilities, not of their logarithms."""
    assert mean_token_probability(reply) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "reply", [None, "text", {}, {"choices": [{"logprobs": None}]}, SimpleNamespace(content="x")]
)
def test_without_log_probabilities_there_is_no_score(reply: Any) -> None:
    """Nothing reported is no score, and not a low one."""
    assert mean_token_probability(reply) is None


def test_a_probability_is_never_above_one() -> None:
    """Rounding in a provider's numbers cannot push a score out of 0..1."""
    reply = {"choices": [{"logprobs": {"content": [{"logprob": 1e-9}]}}]}
    assert mean_token_probability(reply) == 1.0


def test_a_field_is_found_in_mappings_and_objects() -> None:
    """A path goes through both; where it ends there is no score."""
    result = SimpleNamespace(metadata={"judge": SimpleNamespace(score=0.4)})
    assert score_source("metadata.judge.score", "x")(result) == 0.4
    assert score_source("metadata.nobody.score", "x")(result) is None
    assert score_source("score", "x")("text") is None
