"""Scores of governed functions: they close the gate, and lose nothing where they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.core.govern.conftest import REPLY, writer

from tbcontracts import BudgetManager, ConfidenceGateError


@pytest.mark.parametrize(
    "source", [lambda result: result["sure"]["score"], "sure.score"], ids=["function", "field"]
)
def test_a_score_closes_the_gate(manager: BudgetManager, source: Callable[..., Any] | str) -> None:
    """A result that is good enough is the last one, until the score is reset."""
    manager.register_agent("judge", confidence_threshold=0.8)

    @manager.govern("judge", confidence_fn=source)
    def judge(score: float | None) -> dict[str, Any]:
        return {**REPLY, "sure": {"score": score}}

    judge(None)
    judge(0.7)
    judge(0.8)
    with pytest.raises(ConfidenceGateError) as caught:
        judge(0.1)
    assert (caught.value.score, caught.value.threshold) == (0.8, 0.8)
    manager.reset_confidence("judge")
    judge(0.1)
    assert manager.report()["judge"]["consumed"] == 4 * 42


@pytest.mark.parametrize("answer", [ValueError("no"), 1.5, float("nan"), "high"])
def test_a_score_that_fails_loses_nothing(
    manager: BudgetManager, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A `confidence_fn` that raises or returns nonsense is logged; result and charge stay."""

    def score(result: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ascore(result: object) -> Any:
        return score(result)

    @manager.govern("writer", confidence_fn=score)
    def write() -> dict[str, Any]:
        return REPLY

    @manager.govern("writer", confidence_fn=ascore)
    async def awrite() -> dict[str, Any]:
        return REPLY

    with caplog.at_level(logging.ERROR, "tbcontracts"):
        assert write() is REPLY
        assert asyncio.run(awrite()) is REPLY
    assert len(caplog.records) == 2
    assert writer(manager).consumed == 84
    assert writer(manager).confidence is None


def test_a_generator_is_scored_by_all_it_yielded(manager: BudgetManager) -> None:
    """The functions of a generator get the list of its pieces."""
    manager.register_agent("judge", confidence_threshold=0.8)

    @manager.govern("judge", confidence_fn=lambda pieces: len(pieces) / 10)
    def stream() -> Iterator[str]:
        yield from "abc"

    list(stream())
    assert manager.accounts()["judge"].confidence == 0.3
