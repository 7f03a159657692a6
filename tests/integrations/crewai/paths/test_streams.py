"""Responses and streams of a crew: the books are the log, and nothing is held any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integrations.crewai.paths.crews import PLENTY, check, look_up, tool_first

from tbcontracts_crewai import CrewBudgetExceededError, govern_crew


def test_the_responses_api(stage: Any) -> None:
    """OpenAI's responses, with a tool turn, cached and reasoning tokens."""
    at = stage(tool_first)
    team = at.crew(at.writer(llm=at.model(api="responses"), tools=[look_up]))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert {request.path for request in at.server.log} == {"/v1/responses"}
    assert set(check(run, at.server, 2)) == {"Writer"}


def test_streamed_responses(stage: Any) -> None:
    """The same streamed; CrewAI itself knows no tool turns there."""
    at = stage()
    team = at.crew(at.writer(llm=at.model(api="responses", stream=True)))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert [request.streamed for request in at.server.log] == [True]
    assert set(check(run, at.server, 1)) == {"Writer"}


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
@pytest.mark.parametrize("awaited", [False, True], ids=["kickoff", "akickoff"])
def test_a_stream_stays_under_its_contracts(stage: Any, outside: bool, awaited: bool) -> None:
    """A stream sends nothing before it is read, and that may be after the block was left."""
    at = stage(tool_first)
    team = at.crew(at.writer(tools=[look_up]), stream=True)
    run = govern_crew(team, budgets={"Writer": PLENTY})

    async def read(stream: Any) -> str:
        return "".join([chunk.content async for chunk in stream])

    async def main() -> str:
        with run:
            stream: Any = await team.akickoff()
            if not outside:
                return await read(stream)
        return await read(stream)

    if awaited:
        text = asyncio.run(main())
    else:
        with run:
            stream: Any = team.kickoff()
            text = "" if outside else "".join(chunk.content for chunk in stream)
        if outside:
            assert not at.server.log
            text = "".join(chunk.content for chunk in stream)
    assert "It is a word." in text
    assert set(check(run, at.server, 2)) == {"Writer"}


def test_a_stream_is_refused_where_it_is_read(stage: Any) -> None:
    """A refusal reaches whoever reads the stream, also after the block."""
    at = stage()
    team = at.crew(at.writer(), stream=True)
    with govern_crew(team, budgets={"Writer": {"max_tokens": 1}}):
        stream: Any = team.kickoff()
    with pytest.raises(CrewBudgetExceededError):
        list(stream)
    assert not at.server.log


def test_streamed_calls_of_a_model(stage: Any) -> None:
    """`LLM.stream_events`, which calls on a thread of its own, is charged."""
    at = stage()
    writer = at.writer()
    with govern_crew(at.crew(writer), budgets={"Writer": PLENTY}) as run:
        session = writer.llm.stream_events("Say hello.", from_agent=writer)
        for _ in session:
            pass
    assert set(check(run, at.server, 1)) == {"Writer"}
