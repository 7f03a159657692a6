"""The books of a real crew against the request log of the provider that it asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from crewai import LLM, Agent, Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool
from pydantic import BaseModel

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, LoggedRequest, ScriptedRequest, ToolCall
from tbcontracts_crewai import CrewRun, govern_crew

Make = Callable[..., Any]
PLENTY = {"max_tokens": 50_000}


def consumed(run: CrewRun) -> dict[str, int]:
    """Return what each account used."""
    return {name: numbers["consumed"] for name, numbers in run.manager.report().items()}


def billed(server: FakeOpenAI, *roles: str) -> dict[str, int]:
    """Return what the provider billed for the system prompt of each role."""

    def role_of(request: LoggedRequest) -> str:
        return next(role for role in roles if f"You are {role}." in request.system_text)

    return {str(role): tokens for role, tokens in server.billed_by(role_of).items()}


@tool("look_up")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


def tool_first(request: ScriptedRequest) -> Answer:
    """Call a tool once, then answer."""
    if any(role == "tool" for role, _ in request.messages):
        return Answer(text="It is a word.")
    return Answer(tool_calls=[ToolCall(name="look_up", arguments={"word": "cat"})])


def test_books_equal_the_log_per_role(
    server: FakeOpenAI, llm: Make, agent: Make, crew: Make
) -> None:
    """Two roles on one shared LLM are charged what the provider billed for each, to the token."""
    shared = llm()
    team = crew(agent("Writer", llm=shared), agent("Editor", llm=shared))
    with govern_crew(team, budgets={"Writer": PLENTY, "Editor": PLENTY}) as run:
        team.kickoff()
    assert len(server.log) == 2
    assert consumed(run) == billed(server, "Writer", "Editor")
    assert all(account.held == 0 for account in run.manager.accounts().values())
    assert all(account.unmeasured == 0 for account in run.manager.accounts().values())


@pytest.mark.parametrize("settings", [{}, {"is_litellm": True}], ids=["native", "litellm"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_turns_are_charged(
    llm: Make, agent: Make, crew: Make, settings: dict[str, Any], stream: bool
) -> None:
    """A turn that calls a tool is charged, though LiteLLM's emits no event of completion."""
    with FakeOpenAI(tool_first) as server:
        model = llm(base_url=server.base_url, stream=stream, **settings)
        team = crew(agent("Writer", llm=model, tools=[look_up]))
        with govern_crew(team, budgets={"Writer": PLENTY}) as run:
            team.kickoff()
        assert len(server.log) == 2
        assert consumed(run) == {"Writer": server.billed_tokens}
        assert run.manager.accounts()["Writer"].unmeasured == 0


def test_output_json_is_charged(llm: Make, agent: Make, crew: Make) -> None:
    """The request that `output_json` sends through instructor, unannounced, is on the books."""

    class Answered(BaseModel):
        word: str

    def script(request: ScriptedRequest) -> Answer:
        if "Answered" in request.tools:
            return Answer(tool_calls=[ToolCall(name="Answered", arguments={"word": "cat"})])
        return Answer(text="The word is cat.")

    with FakeOpenAI(script) as server:
        # An agent with tools answers in plain text first, and CrewAI turns that into JSON.
        writer = agent("Writer", llm=llm(base_url=server.base_url), tools=[look_up])
        task = Task(description="d", expected_output="e", agent=writer, output_json=Answered)
        team = crew(writer, tasks=[task])
        with govern_crew(team, budgets={"Writer": PLENTY}) as run:
            result = team.kickoff()
        assert result.json_dict == {"word": "cat"}
        assert len(server.log) == 2
        assert consumed(run) == {"Writer": server.billed_tokens}


def test_missing_usage_is_an_estimate(llm: Make, agent: Make, crew: Make) -> None:
    """A reply without usage is charged by estimate and marked so; it is never free."""
    with FakeOpenAI(lambda request: Answer(text="Words.", report_usage=False)) as server:
        team = crew(agent("Writer", llm=llm(base_url=server.base_url)))
        with govern_crew(team, budgets={"Writer": PLENTY}) as run:
            team.kickoff()
        account = run.manager.accounts()["Writer"]
        assert account.consumed == account.unmeasured > 0
        assert account.held == 0


def test_an_http_error_is_not_charged(llm: Make, agent: Make, crew: Make) -> None:
    """A call that the provider answered with HTTP 500 gives its hold back."""
    with FakeOpenAI(lambda request: Fault(status=500)) as server:
        team = crew(agent("Writer", llm=llm(base_url=server.base_url)))
        with (
            govern_crew(team, budgets={"Writer": PLENTY}) as run,
            pytest.raises(Exception, match="fails"),
        ):
            team.kickoff()
        account = run.manager.accounts()["Writer"]
        assert len(server.log) == 1
        assert (account.consumed, account.held) == (0, 0)


def test_a_lost_answer_is_charged(llm: Make, agent: Make, crew: Make) -> None:
    """A call whose connection broke after it was sent is charged by estimate."""
    with FakeOpenAI(lambda request: Fault(kind="drop", billed_tokens=50)) as server:
        team = crew(agent("Writer", llm=llm(base_url=server.base_url)))
        with govern_crew(team, budgets={"Writer": PLENTY}) as run, pytest.raises(ConnectionError):
            team.kickoff()
        account = run.manager.accounts()["Writer"]
        assert account.consumed == account.unmeasured > 0
        assert account.held == 0


def test_async_tasks(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """Tasks with `async_execution`, which run on threads, are charged to their own roles."""
    roles = ("Writer", "Editor", "Printer")
    agents = [agent(role) for role in roles]
    tasks = [
        Task(description="d", expected_output="e", agent=one, async_execution=one is not agents[-1])
        for one in agents
    ]
    team = crew(*agents, tasks=tasks)
    with govern_crew(team, budgets=dict.fromkeys(roles, PLENTY)) as run:
        team.kickoff()
    assert len(server.log) == 3
    assert consumed(run) == billed(server, *roles)


@pytest.mark.parametrize("way", ["kickoff_async", "akickoff"])
def test_awaited_kickoffs(server: FakeOpenAI, agent: Make, crew: Make, way: str) -> None:
    """`kickoff_async` and `akickoff` are charged as `kickoff` is."""
    team = crew(agent("Writer"), agent("Editor"))

    async def main() -> CrewRun:
        with govern_crew(team, budgets={"Writer": PLENTY, "Editor": PLENTY}) as run:
            await getattr(team, way)()
        return run

    run = asyncio.run(main())
    assert len(server.log) == 2
    assert consumed(run) == billed(server, "Writer", "Editor")


def test_a_given_up_call_is_an_estimate_until_its_answer_comes(
    llm: Make, agent: Make, crew: Make
) -> None:
    """CrewAI calls models on threads, which a cancelled `akickoff` leaves running.

    The books hold an estimate at once, and the truth as soon as the answer is there after all.
    """
    release = threading.Event()
    with FakeOpenAI(lambda request: Answer(text="Late.", hold=release)) as server:
        team = crew(agent("Writer", llm=llm(base_url=server.base_url)))

        async def main() -> CrewRun:
            with govern_crew(team, budgets={"Writer": PLENTY}) as run:
                kickoff = asyncio.create_task(team.akickoff())
                await asyncio.to_thread(server.wait_for_requests, 1)
                kickoff.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await kickoff
            account = run.manager.accounts()["Writer"]
            assert account.consumed == account.unmeasured > 0
            assert account.held == 0
            release.set()
            return run

        run = asyncio.run(main())
        account = run.manager.accounts()["Writer"]
        assert (account.consumed, account.unmeasured) == (server.billed_tokens, 0)


def test_a_cancelled_call_is_charged_its_input(llm: Make) -> None:
    """A cancelled `acall` leaves no hold behind, and the input that was sent on the books."""
    release = threading.Event()
    with FakeOpenAI(lambda request: Answer(text="Late.", hold=release)) as server:
        model = llm(base_url=server.base_url)
        writer = Agent(role="Writer", goal="g", backstory="b", llm=model)
        team = Crew(
            agents=[writer], tasks=[Task(description="d", expected_output="e", agent=writer)]
        )

        async def main() -> CrewRun:
            with govern_crew(team, budgets={"Writer": PLENTY}) as run:
                call = asyncio.create_task(model.acall("Say hello.", from_agent=writer))
                await asyncio.to_thread(server.wait_for_requests, 1)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                account = run.manager.accounts()["Writer"]
                assert account.consumed == account.unmeasured > 0
                assert account.held == 0
            return run

        run = asyncio.run(main())
        release.set()
        assert run.manager.accounts()["Writer"].unmeasured > 0


@pytest.mark.parametrize("awaited", [False, True], ids=["for_each", "for_each_async"])
def test_one_template_is_one_account(
    server: FakeOpenAI, agent: Make, crew: Make, awaited: bool
) -> None:
    """A role with {topic} stays one account, however its copies are filled in, newline or not."""
    team = crew(agent("Writer on  {topic}\n"))
    topics = [{"topic": "cats"}, {"topic": "dogs"}, {"topic": "rate limits"}]
    with govern_crew(team, budgets={" Writer on {topic}": PLENTY}) as run:
        if awaited:
            asyncio.run(team.kickoff_for_each_async(topics))
        else:
            team.kickoff_for_each(topics)
    assert len(server.log) == 3
    assert consumed(run) == {"Writer on {topic}": server.billed_tokens}


def test_calls_without_an_agent(server: FakeOpenAI, llm: Make, agent: Make, crew: Make) -> None:
    """The answer that CrewAI forces at `max_iter` names no agent; its task's agent pays."""

    def always_tools(request: ScriptedRequest) -> Answer:
        if request.tools:
            word = f"w{request.index}"
            return Answer(tool_calls=[ToolCall(name="look_up", arguments={"word": word})])
        return Answer(text="Done.")

    with FakeOpenAI(always_tools) as scripted:
        model = llm(base_url=scripted.base_url)
        team = crew(agent("Writer", llm=model, tools=[look_up], max_iter=2))
        with govern_crew(team, budgets={"Writer": PLENTY}) as run:
            team.kickoff()
        assert not scripted.log[-1].body.get("tools")
        assert consumed(run) == {"Writer": scripted.billed_tokens}


def test_a_nested_crew(server: FakeOpenAI, llm: Make, agent: Make, crew: Make) -> None:
    """A crew that runs inside a tool of another one is charged to its own roles."""
    inner = crew(agent("Inner"))

    @tool("look_up")
    def run_inner(word: str) -> str:
        """Run another crew."""
        return str(inner.kickoff())

    with FakeOpenAI({"You are Outer.": tool_first}) as scripted:
        outer = crew(agent("Outer", llm=llm(base_url=scripted.base_url), tools=[run_inner]))
        manager = BudgetManager()
        manager.register_agent("Inner", max_tokens=50_000)
        with govern_crew(outer, manager, budgets={"Outer": PLENTY}) as run:
            outer.kickoff()
        assert consumed(run) == {"Inner": server.billed_tokens, "Outer": scripted.billed_tokens}
    assert server.billed_tokens > 0


def test_a_model_of_your_own(agent: Make, crew: Make) -> None:
    """A `BaseLLM` of the user's own, which emits no event, is held for and charged."""
    seen: list[int] = []

    class Own(BaseLLM):
        def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(run.manager.accounts()["Writer"].held)
            self._track_token_usage_internal({"prompt_tokens": 30, "completion_tokens": 7})
            return "Final Answer: done"

    team = crew(agent("Writer", llm=Own(model="own")))
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert consumed(run) == {"Writer": 37}
    assert len(seen) == 1
    assert seen[0] > 0


def test_plain_threads_take_part_by_wrap(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """`run.wrap` carries the run into plain threads, several at once."""
    teams = [crew(agent("Writer")) for _ in range(3)]
    with govern_crew(teams[0], budgets={"Writer": PLENTY}) as run:
        start = run.wrap(lambda team: team.kickoff())
        threads = [threading.Thread(target=start, args=(team,)) for team in teams]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.log) == 3
    assert consumed(run) == {"Writer": server.billed_tokens}


def test_hierarchical_books(llm: Make, agent: Make) -> None:
    """The manager that CrewAI makes has an account of its own, its coworker another."""

    def delegate(request: ScriptedRequest) -> Answer:
        if any(role == "tool" for role, _ in request.messages):
            return Answer(text="All done.")
        arguments = {"task": "Look.", "context": "None.", "coworker": "Worker"}
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=arguments)])

    with FakeOpenAI({"You are Crew Manager.": delegate, "You are Worker.": "Seen."}) as server:
        model = llm(base_url=server.base_url)
        worker = agent("Worker", llm=model)
        task = Task(description="d", expected_output="e")
        team = Crew(agents=[worker], tasks=[task], process=Process.hierarchical, manager_llm=model)
        with govern_crew(team, budgets={"Worker": PLENTY, "Crew Manager": PLENTY}) as run:
            team.kickoff()
        assert len(server.log) == 3
        assert consumed(run) == billed(server, "Crew Manager", "Worker")


def test_the_tests_use_both_clients(llm: Make) -> None:
    """`is_litellm` selects the LiteLLM path, else the parametrised cases would test one path."""
    assert isinstance(llm(is_litellm=True), LLM)
    assert not isinstance(llm(), LLM)
