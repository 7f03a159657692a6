"""Usage as CrewAI's providers report it, through its events and its counters, onto the books.

The shapes are what CrewAI's own classes for these providers make of a reply; a model class of the
test's own reports them in CrewAI's ways. The real classes are asked in tests/providers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import BaseLLM, llm_call_context

from tbcontracts import Usage
from tbcontracts_crewai import govern_crew

Make = Callable[..., Any]


class Shape(NamedTuple):
    """A report, and what it says."""

    reported: dict[str, Any]
    usage: Usage


SHAPES = {
    "openai": Shape(
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "total_tokens": 130,
            "cached_prompt_tokens": 40,
            "reasoning_tokens": 10,
        },
        Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, reasoning_tokens=10),
    ),
    # Its class has added what the cache read and wrote to the input.
    "anthropic": Shape(
        {
            "input_tokens": 100,
            "output_tokens": 30,
            "total_tokens": 130,
            "cached_prompt_tokens": 40,
            "cache_creation_tokens": 20,
        },
        Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, cache_write_tokens=20),
    ),
    # As LiteLLM passes it on: the input leaves the cache out.
    "anthropic, raw": Shape(
        {
            "input_tokens": 40,
            "output_tokens": 30,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 20,
        },
        Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, cache_write_tokens=20),
    ),
    # What was thought stands beside the candidates.
    "gemini": Shape(
        {
            "prompt_token_count": 100,
            "candidates_token_count": 20,
            "completion_tokens": 30,
            "total_token_count": 130,
            "total_tokens": 130,
            "cached_prompt_tokens": 40,
            "reasoning_tokens": 10,
        },
        Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, reasoning_tokens=10),
    ),
    "bedrock": Shape(
        {"inputTokens": 100, "outputTokens": 30, "totalTokens": 130},
        Usage(input_tokens=100, output_tokens=30),
    ),
    "bedrock, with its cache": Shape(
        {
            "inputTokens": 40,
            "outputTokens": 30,
            "totalTokens": 130,
            "cacheReadInputTokens": 40,
            "cacheWriteInputTokens": 20,
        },
        Usage(input_tokens=100, output_tokens=30, cached_input_tokens=40, cache_write_tokens=20),
    ),
}


class Reports(BaseLLM):
    """A model that reports usage in CrewAI's ways."""

    reported: dict[str, Any]
    ways: str

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer, and report."""
        agent = kwargs.get("from_agent")
        with llm_call_context():
            self._emit_call_started_event(messages, from_agent=agent)
            if "tracked" in self.ways:
                self._track_token_usage_internal(self.reported)
            self._emit_call_completed_event(
                response="done",
                call_type=LLMCallType.LLM_CALL,
                from_agent=agent,
                messages=messages,
                usage=self.reported if "completed" in self.ways else None,
            )
            return "done"


@pytest.mark.parametrize("ways", ["tracked", "completed", "tracked and completed"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_report_is_read_whole_and_once(agent: Make, crew: Make, name: str, ways: str) -> None:
    """Whichever way it comes, and if it comes twice, the books have it once, in its buckets."""
    shape = SHAPES[name]
    model = Reports(model="m", reported=shape.reported, ways=ways)
    team = crew(agent("Writer", llm=model))
    with govern_crew(team, budgets={"Writer": {"max_tokens": 50_000}}) as run:
        team.kickoff()
    account = run.manager.accounts()["Writer"]
    assert (account.consumed, account.held, account.unmeasured) == (130, 0, 0)
    booked = Usage(
        input_tokens=account.input_tokens,
        output_tokens=account.output_tokens,
        cached_input_tokens=account.cached_input_tokens,
        cache_write_tokens=account.cache_write_tokens,
        reasoning_tokens=account.reasoning_tokens,
    )
    assert booked == shape.usage
    assert [entry.kind for entry in run.manager.journal()] == ["opened", "held", "settled"]


def test_a_report_of_nothing_is_no_report(agent: Make, crew: Make) -> None:
    """CrewAI writes a total of 0 where a provider said nothing: an estimate, not a free call."""
    model = Reports(model="m", reported={"total_tokens": 0}, ways="tracked and completed")
    team = crew(agent("Writer", llm=model))
    with govern_crew(team, budgets={"Writer": {"max_tokens": 50_000}}) as run:
        team.kickoff()
    account = run.manager.accounts()["Writer"]
    assert account.consumed == account.unmeasured > 0
