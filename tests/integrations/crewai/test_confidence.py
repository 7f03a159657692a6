"""Scores of a crew's work, and the gate that they close."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Task
from pydantic import BaseModel

from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import CrewConfidenceGateError, govern_crew, guardrail_verdict

Make = Callable[..., Any]
GATED = {"max_tokens": 50_000, "confidence_threshold": 0.8}


class Judged(BaseModel):
    """An answer that says how sure it is."""

    text: str
    confidence: float


SOURCES: dict[str, dict[str, Any]] = {
    "argument": {"budgets": {"Writer": GATED}, "confidence": {"Writer": "confidence"}},
    "budgets": {"budgets": {"Writer": {**GATED, "confidence_key": "confidence"}}},
    "agents.yaml": {
        "config": {"w": {"role": "Writer\n", "budget": {**GATED, "confidence_key": "confidence"}}}
    },
}


@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize("kind", ["output_pydantic", "output_json"])
def test_a_field_of_the_structured_output(
    llm: Make, agent: Make, crew: Make, kind: str, source: str
) -> None:
    """A task whose answer is sure enough is the role's last paid one."""
    with FakeOpenAI(['{"text": "a", "confidence": 0.5}', '{"text": "b", "confidence": 0.9}']) as at:
        writer = agent("Writer", llm=llm(base_url=at.base_url))
        structured: Any = {kind: Judged}
        tasks = [
            Task(description=f"Part {part}.", expected_output="e", agent=writer, **structured)
            for part in range(3)
        ]
        team = crew(writer, tasks=tasks)
        run = govern_crew(team, **SOURCES[source])
        with run, pytest.raises(CrewConfidenceGateError) as caught:
            team.kickoff()
        assert (caught.value.score, caught.value.threshold) == (0.9, 0.8)
        assert [task.output is not None for task in tasks] == [True, True, False]
        assert len(at.log) == 2
        assert run.manager.accounts()["Writer"].consumed == at.billed_tokens


def test_a_function_of_the_output(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A function scores the whole `TaskOutput`; other roles are not scored."""
    seen: list[str] = []

    def score(output: Any) -> float:
        seen.append(output.agent)
        return 0.9

    writer = agent("Writer")
    team = crew(writer, agent("Editor"), writer)
    budgets = {"Writer": GATED, "Editor": GATED}
    with (
        govern_crew(team, budgets=budgets, confidence={"Writer\n": score}),
        pytest.raises(CrewConfidenceGateError),
    ):
        team.kickoff()
    assert seen == ["Writer"]
    assert len(server.log) == 2


def test_a_guardrails_verdict(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """Work that was sent back goes on; work that passed is good enough."""
    seen: list[Any] = []

    def second_time(output):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - CrewAI reads them
        seen.append(output)
        return (len(seen) > 1, output.raw if len(seen) > 1 else "Once more.")

    writer = agent("Writer")
    tasks = [
        Task(description="d", expected_output="e", agent=writer, guardrail=second_time),
        Task(description="d", expected_output="e", agent=writer),
    ]
    team = crew(writer, tasks=tasks)
    with (
        govern_crew(team, budgets={"Writer": GATED}, confidence={"Writer": guardrail_verdict}),
        pytest.raises(CrewConfidenceGateError) as caught,
    ):
        team.kickoff()
    assert caught.value.score == 1.0
    assert len(server.log) == len(seen) == 2


def test_a_score_that_is_none_loses_nothing(
    server: FakeOpenAI, agent: Make, crew: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that fails, or says what cannot be, leaves work, charge and gate as they are."""

    def fails(output: Any) -> float:
        msg = "no score"
        raise ValueError(msg)

    writer = agent("Writer")
    team = crew(writer, writer)
    for wrong in (fails, lambda output: 7.0):
        with govern_crew(team, budgets={"Writer": GATED}, confidence={"Writer": wrong}) as run:
            team.kickoff()
        assert run.manager.accounts()["Writer"].consumed > 0
    assert caplog.text.count("The score of agent 'Writer' is not used.") == 4
    assert len(server.log) == 4


def test_a_field_that_is_not_there_is_said(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A path that leads nowhere warns once, and the gate stays open."""
    writer = agent("Writer")
    team = crew(writer, writer)
    run = govern_crew(team, budgets={"Writer": GATED}, confidence={"Writer": "confidence"})
    with warnings.catch_warnings(record=True) as caught, run:
        warnings.simplefilter("always")
        team.kickoff()
    assert sum("without a score" in str(warning.message) for warning in caught) == 1
    assert len(server.log) == 2


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"Writter": "confidence"}, ConfigurationError, "mean 'Writer'"),
        ({"Writer": 7}, TypeError, "a function or the name of a field"),
        ([1], ConfigurationError, "must be a mapping of roles"),
    ],
)
def test_sources_that_cannot_be_are_refused(
    agent: Make, crew: Make, given: Any, error: type[Exception], text: str
) -> None:
    """A role without a contract, or what is no source, is a mistake of whoever wrote it."""
    with pytest.raises(error, match=text):
        govern_crew(crew(agent("Writer")), budgets={"Writer": GATED}, confidence=given)
