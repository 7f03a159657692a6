"""Scores from log probabilities, in the shapes that providers have, and from fields of results."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from tbcontracts import BudgetManager, ConfidenceGateError
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


def test_a_contract_may_name_the_field() -> None:
    """`confidence_key` is where a governed function is scored, unless it says another source."""
    manager = BudgetManager()
    for name in ("writer", "editor"):
        manager.register_agent(
            name, max_tokens=1_000, confidence_threshold=0.8, confidence_key="answer.score"
        )

    def work() -> dict[str, Any]:
        return {"answer": {"score": 0.9}}

    by_contract = manager.govern("writer", usage_fn=lambda _: 1)(work)
    by_function = manager.govern("editor", lambda _: 0.1, usage_fn=lambda _: 1)(work)
    by_contract()
    by_function()
    by_function()
    with pytest.raises(ConfidenceGateError):
        by_contract()
    assert manager.accounts()["editor"].confidence == 0.1
    assert manager.change_contract("editor", confidence_key="other").confidence_key == "other"


@pytest.mark.parametrize(("key", "error"), [("", ValueError), ("a..b", ValueError), (5, TypeError)])
def test_a_wrong_field_is_told(key: Any, error: type[Exception]) -> None:
    """A path of names, or none."""
    with pytest.raises(error, match="confidence_key of agent 'a' must be"):
        BudgetManager().register_agent("a", confidence_key=key)
