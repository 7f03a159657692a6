"""Agents, flows and crews at once: the books are the log, and nothing is held any more."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from tests.integrations.crewai.paths.crews import PLENTY, check, look_up, tool_first

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.testing import Answer, LoggedRequest, ScriptedRequest, ToolCall
from tbcontracts_crewai import CrewBudgetExceededError, govern_crew


def role_of(request: LoggedRequest) -> str:
    """Return the role that a request was made in, as its system prompt says."""
    said = request.system_text
    return said.partition("You are ")[2].partition(".")[0] if "You are " in said else ""


@pytest.mark.parametrize("awaited", [False, True], ids=["kickoff", "kickoff_async"])
def test_an_agent_without_a_crew(stage: Any, awaited: bool) -> None:
    """`Agent.kickoff` inside the block is charged to the agent."""
    at = stage(tool_first)
    writer = at.writer(tools=[look_up])
    with govern_crew(at.crew(writer), budgets={"Writer": PLENTY}) as run:
        if awaited:
            asyncio.run(writer.kickoff_async("Look up cat."))
        else:
            writer.kickoff("Look up cat.")
    assert set(check(run, at.server, 2)) == {"Writer"}


def test_delegation(stage: Any) -> None:
    """A coworker that is asked on the way pays for its own calls."""

    def delegate(request: ScriptedRequest) -> Answer:
        if any(role == "tool" for role, _ in request.messages):
            return Answer(text="All done.")
        name = next(name for name in request.tools if name.startswith("delegate"))
        arguments = {"task": "Look.", "context": "None.", "coworker": "Editor"}
        return Answer(tool_calls=[ToolCall(name=name, arguments=arguments)])

    at = stage({"You are Writer.": delegate, "You are Editor.": "Seen."})
    writer, editor = at.writer(allow_delegation=True), at.writer("Editor")
    task = Task(description="d", expected_output="e", agent=writer)
    team = Crew(agents=[writer, editor], tasks=[task])
    with govern_crew(team, budgets={"Writer": PLENTY, "Editor": PLENTY}) as run:
        team.kickoff()
    assert check(run, at.server, 3) == at.server.billed_by(role_of)


def test_a_flow_with_two_crews_and_a_call_of_its_own(stage: Any) -> None:
    """Crews in a flow pay by role, a step that calls a model itself by the named contract."""
    at = stage()
    first, second = at.crew(at.writer()), at.crew(at.writer("Editor"))
    model = at.model()

    class Two(Flow):  # type: ignore[type-arg]
        @start()
        def begin(self) -> str:
            return str(first.kickoff())

        @listen(begin)
        def middle(self) -> str:
            return str(model.call("Say hello."))

        @listen(middle)
        def end(self) -> str:
            return str(second.kickoff())

    manager = BudgetManager(unattributed=BudgetContract("House", max_tokens=50_000))
    manager.register_agent("Editor", max_tokens=50_000)
    with govern_crew(first, manager, budgets={"Writer": PLENTY}) as run:
        Two().kickoff()
    used = check(run, at.server, 3)
    assert sorted(used) == ["Editor", "House", "Writer"]
    assert all(used.values())


def test_a_refusal_leaves_a_flow(stage: Any) -> None:
    """What a crew of a flow is refused leaves the flow's `kickoff()` as it is."""
    at = stage()
    team = at.crew(at.writer())

    class One(Flow):  # type: ignore[type-arg]
        @start()
        def begin(self) -> str:
            return str(team.kickoff())

    with (
        govern_crew(team, budgets={"Writer": {"max_tokens": 1}}),
        pytest.raises(CrewBudgetExceededError),
    ):
        One().kickoff()
    assert not at.server.log


def test_parallel_crews_on_one_model(stage: Any) -> None:
    """Crews that run at once on one shared model are told apart to the token."""
    roles = ("One", "Two", "Three")
    at = stage()
    shared = at.model()
    teams = [at.crew(at.writer(role, llm=shared), at.writer(role, llm=shared)) for role in roles]
    manager = BudgetManager()
    for role in roles:
        manager.register_agent(role, max_tokens=50_000)
    with govern_crew(teams[0], manager) as run:
        threads = [threading.Thread(target=run.wrap(team.kickoff)) for team in teams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert check(run, at.server, 6) == at.server.billed_by(role_of)


def test_of_40_parallel_tasks_exactly_two_are_sent(stage: Any) -> None:
    """Tasks of 2,000 on a budget of 5,000, all started before the first answer."""
    release = threading.Event()
    at = stage(lambda request: Answer(text="Done.", hold=release))
    writers = [at.writer(llm=at.model(max_completion_tokens=1_900)) for _ in range(40)]
    teams = [at.crew(writer) for writer in writers]
    run = govern_crew(teams[0], budgets={"Writer": {"max_tokens": 5_000}})
    refused = threading.Semaphore(0)

    def kickoff(team: Any) -> None:
        try:
            team.kickoff()
        except CrewBudgetExceededError:
            refused.release()

    with run:
        start_one = run.wrap(kickoff)
        threads = [threading.Thread(target=start_one, args=(team,)) for team in teams]
        for thread in threads:
            thread.start()
        for _ in range(38):
            assert refused.acquire(timeout=60)
        at.server.wait_for_requests(2)
        release.set()
        for thread in threads:
            thread.join()
    assert check(run, at.server, 2) == {"Writer": at.server.billed_tokens}


def test_a_refused_crew_pays_for_no_retry(stage: Any) -> None:
    """CrewAI repeats a failed task three times, each billed; what was refused is not repeated."""
    at = stage(tool_first)
    # One call fits; the second, after the tool, does not.
    writer = Agent(
        role="Writer",
        goal="g",
        backstory="b",
        tools=[look_up],
        llm=at.model(max_completion_tokens=300),
    )
    assert writer.max_retry_limit == 2
    team = at.crew(writer)
    with (
        govern_crew(team, budgets={"Writer": {"max_tokens": 500}}) as run,
        pytest.raises(CrewBudgetExceededError),
    ):
        team.kickoff()
    check(run, at.server, 1)


def test_a_hierarchy_with_tools(stage: Any) -> None:
    """Manager and coworker, both with tool turns, to the token."""

    def manage(request: ScriptedRequest) -> Answer:
        if any(role == "tool" for role, _ in request.messages):
            return Answer(text="All done.")
        arguments = {"task": "Look up cat.", "context": "None.", "coworker": "Worker"}
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=arguments)])

    at = stage({"You are Crew Manager.": manage, "You are Worker.": tool_first})
    model = at.model(stream=True)
    team = Crew(
        agents=[at.writer("Worker", llm=model, tools=[look_up])],
        tasks=[Task(description="d", expected_output="e")],
        process=Process.hierarchical,
        manager_llm=model,
    )
    with govern_crew(team, budgets={"Worker": PLENTY, "Crew Manager": PLENTY}) as run:
        team.kickoff()
    assert check(run, at.server, 4) == at.server.billed_by(role_of)
