"""Every path of a crew's calls: the books are the provider's log, and nothing is held any more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, start
from crewai.knowledge.knowledge import Knowledge
from crewai.knowledge.storage.base_knowledge_storage import BaseKnowledgeStorage
from crewai.memory.unified_memory import Memory
from crewai.tools import tool
from pydantic import BaseModel

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.testing import (
    Answer,
    FakeOpenAI,
    Fault,
    LoggedRequest,
    ScriptedRequest,
    ToolCall,
)
from tbcontracts_crewai import CrewBudgetExceededError, CrewRun, govern_crew

Make = Callable[..., Any]
PLENTY = {"max_tokens": 200_000}


@tool("look_up")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


class Answered(BaseModel):
    """What structured answers are made of."""

    word: str


def tool_first(request: ScriptedRequest) -> Answer:
    """Call a tool once, then answer."""
    items = request.body.get("input") or request.body.get("messages") or ()
    if any("function_call_output" in str(item) or "'tool'" in str(item) for item in items):
        return Answer(text="It is a word.", cached_tokens=8, reasoning_tokens=3)
    if not request.tools:
        return Answer(text="It is a word.")
    return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"word": "cat"})])


def role_of(request: LoggedRequest) -> str:
    """Return the role that a request was made in, as its system prompt says."""
    said = request.system_text
    return said.partition("You are ")[2].partition(".")[0] if "You are " in said else ""


class Stage(NamedTuple):
    """What a scenario is made with."""

    server: FakeOpenAI
    llm: Make
    agent: Make
    crew: Make

    def model(self, **settings: Any) -> Any:
        """Return a model that asks this stage's provider."""
        return self.llm(base_url=self.server.base_url, **settings)

    def writer(self, role: str = "Writer", **settings: Any) -> Any:
        """Return an agent of this stage."""
        settings.setdefault("llm", self.model())
        return self.agent(role, **settings)


def check(run: CrewRun, server: FakeOpenAI, requests: int | None = None) -> dict[str, int]:
    """Compare the books with the log; return what each account used."""
    accounts = run.manager.accounts()
    if requests is not None:
        assert len(server.log) == requests
    assert sum(account.consumed for account in accounts.values()) == server.billed_tokens > 0
    assert all(account.held == account.unmeasured == 0 for account in accounts.values())
    return {name: account.consumed for name, account in accounts.items()}


@pytest.fixture
def stage(llm: Make, agent: Make, crew: Make) -> Any:
    """Return a maker of stages for scripts; their servers stop at the end."""
    servers: list[FakeOpenAI] = []

    def make(script: Any = None) -> Stage:
        servers.append(FakeOpenAI(script).start())
        return Stage(servers[-1], llm, agent, crew)

    yield make
    for server in servers:
        server.stop()


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


def test_knowledge(stage: Any) -> None:
    """The question that knowledge is asked is put into words by a call; the task's agent pays."""

    class Known(BaseKnowledgeStorage):
        def search(self, *args: Any, **kwargs: Any) -> list[Any]:
            return [{"content": "Cats purr.", "score": 1.0}]

        async def asearch(self, *args: Any, **kwargs: Any) -> list[Any]:
            return self.search()

        def save(self, documents: list[str]) -> None:
            """Save nothing."""

        async def asave(self, documents: list[str]) -> None:
            """Save nothing."""

        def reset(self) -> None:
            """Forget nothing."""

        async def areset(self) -> None:
            """Forget nothing."""

    at = stage()
    writer = at.writer()
    writer.knowledge = Knowledge(collection_name="cats", sources=[], storage=Known())
    team = at.crew(writer)
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
    assert set(check(run, at.server)) == {"Writer"}
    assert len(at.server.log) == 2


def test_memory(stage: Any, tmp_path: Any) -> None:
    """What memory analyses on the way is charged to the task's agent; embeddings are no calls."""

    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 1.0, 0.0, 0.0] for text in texts]

    analysis = {
        "suggested_scope": "/",
        "categories": ["cats"],
        "importance": 0.5,
        "extracted_metadata": {"entities": [], "dates": [], "topics": []},
    }

    def script(request: ScriptedRequest) -> str:
        if "MemoryAnalysis" in str(request.body):
            return json.dumps(analysis)
        return '{"memories": ["Cats purr."]}'

    at = stage(script)
    memory = Memory(llm=at.model(), embedder=embed, storage=str(tmp_path / "memory"))
    team = at.crew(at.writer(), memory=memory)
    with govern_crew(team, budgets={"Writer": PLENTY}) as run:
        team.kickoff()
        memory.drain_writes()
    assert len(at.server.log) >= 2
    assert set(check(run, at.server)) == {"Writer"}


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
