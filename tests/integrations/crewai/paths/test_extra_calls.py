"""Calls that CrewAI makes of its own accord: plans, guardrails, structure, compaction."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from crewai import Task
from crewai.tools import tool
from pydantic import BaseModel
from tests.integrations.crewai.paths.crews import PLENTY, check, tool_first

from tbcontracts.testing import Answer, Fault, ScriptedRequest, ToolCall
from tbcontracts_crewai import govern_crew


class Answered(BaseModel):
    """What structured answers are made of."""

    word: str


def test_a_crew_that_plans(stage: Any) -> None:
    """The planner that CrewAI adds is an agent of its own, with a contract if it is named."""
    plan = {"list_of_plans_per_task": [{"task_number": 1, "task": "t", "plan": "Think first."}]}
    at = stage({"Task Execution Planner": json.dumps(plan), "You are Writer.": "Done."})
    team = at.crew(at.writer(), planning=True, planning_llm=at.model())
    budgets = {"Writer": PLENTY, "Task Execution Planner": PLENTY}
    with govern_crew(team, budgets=budgets) as run:
        team.kickoff()
    used = check(run, at.server, 2)
    assert all(used[role] > 0 for role in budgets)


def test_an_agent_that_plans(stage: Any) -> None:
    """What an agent plans before its work is charged to it."""
    at = stage(lambda request: "READY: I am ready to execute the task.")
    team = at.crew(at.writer(planning=True))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert len(at.server.log) >= 2
    assert set(check(run, at.server)) == {"Writer"}


def test_a_guardrail_that_sends_work_back(stage: Any) -> None:
    """Each attempt of a task is charged to its agent."""
    at = stage()
    seen: list[Any] = []

    def second_time(output):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - CrewAI reads them
        seen.append(output)
        return (len(seen) > 1, output.raw if len(seen) > 1 else "Once more.")

    writer = at.writer()
    task = Task(description="d", expected_output="e", agent=writer, guardrail=second_time)
    team = at.crew(writer, tasks=[task])
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert set(check(run, at.server, 2)) == {"Writer"}


def test_a_guardrail_in_words(stage: Any) -> None:
    """The agent that checks a guardrail in words pays for its own calls."""
    verdict = json.dumps({"valid": True, "feedback": None})
    at = stage({"You are Writer.": "Done.", "You are Guardrail Agent": verdict})
    writer = at.writer()
    task = Task(description="d", expected_output="e", agent=writer, guardrail="Must be polite.")
    team = at.crew(writer, tasks=[task])
    with govern_crew(team, budgets={"Writer": PLENTY, "Guardrail Agent": PLENTY}) as run:
        team.kickoff()
    used = check(run, at.server)
    assert used["Guardrail Agent"] > 0
    assert sum(used.values()) == used["Guardrail Agent"] + used["Writer"]


@pytest.mark.parametrize("settings", [{}, {"is_litellm": True}], ids=["native", "litellm"])
def test_structured_output(
    stage: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """`output_pydantic` is charged, also where it goes through the instructor library."""

    def script(request: ScriptedRequest) -> Answer:
        if "Answered" in request.tools:
            return Answer(tool_calls=[ToolCall(name="Answered", arguments={"word": "cat"})])
        return Answer(text='{"word": "cat"}')

    at = stage(script)
    # LiteLLM's structured calls do not take the model's own address along.
    monkeypatch.setenv("OPENAI_BASE_URL", at.server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    writer = at.writer(llm=at.model(**settings))
    task = Task(description="d", expected_output="e", agent=writer, output_pydantic=Answered)
    team = at.crew(writer, tasks=[task])
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        result: Any = team.kickoff()
    assert result.pydantic == Answered(word="cat")
    assert set(check(run, at.server)) == {"Writer"}


def test_a_structured_answer_that_cannot_be_read(stage: Any) -> None:
    """It was billed, and nobody says how much: the books have estimates that say so."""
    at = stage(lambda request: "This is no JSON.")
    writer = at.writer(llm=at.model(max_completion_tokens=50))
    team = at.crew(writer)
    with govern_crew(team, budgets={"Writer": PLENTY}) as run, pytest.raises(ValueError):  # noqa: PT011
        writer.llm.call("Say cat.", from_agent=writer, response_model=Answered)
    account = run.manager.accounts()["Writer"]
    assert len(at.server.log) >= 1
    assert account.consumed >= at.server.billed_tokens
    assert account.held == 0


def test_compaction(stage: Any) -> None:
    """The calls that shorten a conversation which outgrew the model's window are charged."""

    def script(request: ScriptedRequest) -> Any:
        if request.index == 1:
            said = "This model's maximum context length is 8192 tokens."
            return Fault(status=400, message=said)
        if request.index > 1 and not request.tools:
            return Answer(text="<summary>Cats, many times.</summary>")
        return tool_first(request) if request.index == 0 else Answer(text="It is a word.")

    @tool("look_up")
    def long(word: str) -> str:
        """Look a word up."""
        return f"{word} " * 700

    at = stage(script)
    team = at.crew(at.writer(tools=[long]))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert at.server.log[1].status == 400
    shortened = at.server.log[2:-1]
    assert shortened
    assert not any(request.body.get("tools") for request in shortened)
    assert set(check(run, at.server)) == {"Writer"}


def test_a_task_that_ran_out_of_time(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CrewAI waits for the call under way, and the provider bills it: so do the books."""
    release = threading.Event()
    give_up = Future.cancel

    def cancel(future: Any) -> bool:
        release.set()  # the answer comes after the limit has passed
        return give_up(future)

    monkeypatch.setattr(Future, "cancel", cancel)
    at = stage(lambda request: Answer(text="Late.", hold=release))
    team = at.crew(at.writer(max_execution_time=1))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run, pytest.raises(TimeoutError):
        team.kickoff()
    assert set(check(run, at.server, 1)) == {"Writer"}
