"""What a crew does at the end of a budget, as its contracts say: end, fall back, or ask."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Agent, Crew, Process, Task
from crewai.llms.base_llm import BaseLLM
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.tools import tool
from pydantic import BaseModel

from tbcontracts import BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.exhaustion import BudgetRequest
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_crewai import CrewBudgetExceededError, CrewRun, govern_crew
from tbcontracts_crewai.instead import FINISH

Make = Callable[..., Any]
PLENTY = {"max_tokens": 50_000}
BILLED = 400
"""What each call of these scripts is billed."""
ENDING = {"max_tokens": 2_000, "min_reserve": 700, "on_exceeded": "end"}
"""Three calls fit; the fourth is to finish from the reserve."""


@tool("look_up")
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word."


def loops(request: ScriptedRequest) -> Answer:
    """Call a tool for as long as there is one, each time with another word."""
    if request.tools:
        call = ToolCall(name=request.tools[0], arguments={"word": f"w{request.index}"})
        return Answer(tool_calls=[call], input_tokens=BILLED - 20, output_tokens=20)
    return Answer(text="My best answer.", input_tokens=BILLED - 20, output_tokens=20)


def check_books(run: CrewRun, server: FakeOpenAI) -> None:
    """The books are the provider's log, to the token, and nothing is held any more."""
    accounts = run.manager.accounts().values()
    assert sum(account.consumed for account in accounts) == server.billed_tokens
    assert all(account.held == account.unmeasured == 0 for account in accounts)


@pytest.fixture
def looping(llm: Make, agent: Make, crew: Make) -> Callable[..., Any]:
    """Return a maker of crews whose agent would use its tool for ever."""

    def make(server: FakeOpenAI, role: str = "Writer", **settings: Any) -> Any:
        model = llm(base_url=server.base_url, max_completion_tokens=100, **settings)
        return crew(agent(role, llm=model, tools=[look_up]))

    return make


WAYS = [{}, {"stream": True}, {"is_litellm": True}, {"api": "responses"}]


@pytest.mark.parametrize("settings", WAYS, ids=["chat", "streamed", "litellm", "responses"])
def test_end_is_a_last_answer_without_tools(looping: Make, settings: dict[str, Any]) -> None:
    """Ordinary calls leave the reserve alone; one last call without tools is paid from it."""
    with FakeOpenAI(loops) as server:
        team = looping(server, **settings)
        with govern_crew(team, budgets={"Writer": ENDING}) as run:
            result = team.kickoff()
        assert result.raw == "My best answer."
        assert len(server.log) == 4
        assert [bool(request.body.get("tools")) for request in server.log] == [True] * 3 + [False]
        assert server.log[-1].last_text == FINISH
        check_books(run, server)
        account = run.manager.accounts()["Writer"]
        assert account.consumed == 4 * BILLED > 2_000 - 700
        assert team.agents[0].max_iter == team.agents[0].agent_executor.max_iter


def test_end_where_tools_are_called_by_text(llm: Make, agent: Make, crew: Make) -> None:
    """A model of the user's own that is told its tools in the prompt finishes too."""
    seen: list[str] = []

    class Own(BaseLLM):
        def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(str(messages[-1]["content"]))
            self._track_token_usage_internal({"prompt_tokens": 380, "completion_tokens": 20})
            if seen[-1] == FINISH:
                return "My best answer."
            return f"Thought: more\nAction: look_up\nAction Input: {{'word': 'w{len(seen)}'}}"

    team = crew(agent("Writer", llm=Own(model="own", max_tokens=100), tools=[look_up]))
    with govern_crew(team, budgets={"Writer": ENDING}) as run:
        result = team.kickoff()
    assert result.raw == "My best answer."
    assert seen[-1] == FINISH
    assert run.manager.accounts()["Writer"].consumed == len(seen) * BILLED
    assert run.manager.accounts()["Writer"].held == 0


def test_an_end_that_cannot_be_paid_is_raised(looping: Make) -> None:
    """Where not even the reserve covers a last call, the refusal leaves `kickoff()`."""
    with FakeOpenAI(loops) as server:
        team = looping(server)
        budget = {"max_tokens": 1_300, "min_reserve": 10, "on_exceeded": "end"}
        with (
            govern_crew(team, budgets={"Writer": budget}) as run,
            pytest.raises(CrewBudgetExceededError),
        ):
            team.kickoff()
        assert len(server.log) == 3
        check_books(run, server)


def test_structured_output_ends_from_the_reserve(llm: Make, agent: Make, crew: Make) -> None:
    """A call for structured output has no tools to take away: it is made as it is."""

    class Answered(BaseModel):
        word: str

    def script(request: ScriptedRequest) -> Answer:
        return Answer(text='{"word": "cat"}', input_tokens=BILLED - 20, output_tokens=20)

    with FakeOpenAI(script) as server:
        writer = agent("Writer", llm=llm(base_url=server.base_url, max_completion_tokens=100))
        task = Task(description="d", expected_output="e", agent=writer, output_pydantic=Answered)
        team = crew(writer, tasks=[task])
        budget = {"max_tokens": 800, "min_reserve": 790, "on_exceeded": "end"}
        with govern_crew(team, budgets={"Writer": budget}) as run:
            result = team.kickoff()
        assert result.pydantic == Answered(word="cat")
        assert len(server.log) == 1
        assert FINISH not in server.log[0].last_text
        check_books(run, server)


@pytest.mark.parametrize("named", [True, False], ids=["name", "model"])
@pytest.mark.parametrize("awaited", [False, True], ids=["kickoff", "akickoff"])
def test_a_fallback_answers_instead(looping: Make, llm: Make, named: bool, awaited: bool) -> None:
    """Another model answers what does not fit; the agent's own model is what it was."""

    def script(request: ScriptedRequest) -> Answer:
        if request.model == "cheap":
            return Answer(text="A cheap answer.", input_tokens=50, output_tokens=10)
        return loops(request)

    with FakeOpenAI(script) as server:
        team = looping(server, max_tokens=None)
        writer = team.agents[0]
        # The answers expected of the agent's own model are long, the other one's are not.
        writer.llm.max_completion_tokens = 900
        cheap = llm(base_url=server.base_url, model="openai/cheap", max_completion_tokens=20)
        budget = {"max_tokens": 1_700, "on_exceeded": {"fallback": cheap}}
        if named:
            # A model that is only named has no cap: its hold is the contract's expectation.
            budget |= {"max_output_tokens": 20, "on_exceeded": {"fallback": "openai/cheap"}}
        before = writer.llm
        with govern_crew(team, budgets={"Writer": budget}) as run:
            result = asyncio.run(team.akickoff()) if awaited else team.kickoff()
        assert result.raw == "A cheap answer."
        assert [request.model for request in server.log] == ["gpt-4o-mini"] * 2 + ["cheap"]
        assert [bool(request.body.get("tools")) for request in server.log] == [True] * 3
        assert writer.llm is before
        check_books(run, server)


def test_a_fallback_passes_the_gate(looping: Make, llm: Make) -> None:
    """What does not fit either is not sent, and the refusal is the fallback's."""
    with FakeOpenAI(loops) as server:
        team = looping(server)
        cheap = llm(base_url=server.base_url, model="openai/cheap", max_completion_tokens=60)
        budget = {"max_tokens": 60, "on_exceeded": {"fallback": cheap}}
        with (
            govern_crew(team, budgets={"Writer": budget}) as run,
            pytest.raises(CrewBudgetExceededError) as caught,
        ):
            team.kickoff()
        assert not server.log
        assert caught.value.requested < 60 + 400
        assert run.manager.accounts()["Writer"].held == 0


def test_parallel_tasks_of_one_role_fall_back_each(llm: Make, agent: Make, crew: Make) -> None:
    """While one call of a role is under way, what does not fit beside it goes to the other."""
    release = threading.Event()

    def script(request: ScriptedRequest) -> Answer:
        if request.model == "cheap":
            return Answer(text="Cheap.", input_tokens=50, output_tokens=5)
        return Answer(text="Dear.", hold=release, input_tokens=900, output_tokens=100)

    with FakeOpenAI(script) as server:
        own = llm(base_url=server.base_url, max_completion_tokens=900)
        cheap = llm(base_url=server.base_url, model="openai/cheap", max_completion_tokens=20)
        # CrewAI lets an agent do one thing at a time; agents of one role share an account.
        writers = [agent("Writer", llm=own) for _ in range(3)]
        last = agent("Editor", llm=own)
        tasks = [
            Task(description=f"Part {at}.", expected_output="e", agent=one, async_execution=True)
            for at, one in enumerate(writers)
        ]
        tasks.append(Task(description="d", expected_output="e", agent=last))
        team = crew(*writers, last, tasks=tasks)
        budgets: dict[str, Any] = {
            "Writer": {"max_tokens": 1_500, "on_exceeded": {"fallback": cheap}, "priority": 2},
            "Editor": {**PLENTY, "min_reserve": 50_000},
        }
        with govern_crew(team, budgets=budgets) as run:
            kickoff = threading.Thread(target=run.wrap(team.kickoff))
            kickoff.start()
            try:
                server.wait_for_requests(3)
            finally:
                release.set()
                kickoff.join()
        models = sorted(request.model for request in server.log)
        assert models == ["cheap", "cheap", "gpt-4o-mini", "gpt-4o-mini"]
        assert sorted(str(task.output) for task in tasks) == ["Cheap.", "Cheap.", "Dear.", "Dear."]
        check_books(run, server)


def test_a_fallback_that_is_no_model_is_refused(looping: Make, server: FakeOpenAI) -> None:
    """What cannot answer calls is refused where the crew is put under contracts."""
    budget = {"max_tokens": 60, "on_exceeded": {"fallback": lambda: "text"}}
    with pytest.raises(ConfigurationError, match="an LLM or the name of one"):
        govern_crew(looping(server), budgets={"Writer": budget})


def test_ask_grants_once(looping: Make) -> None:
    """Whoever is asked is told what is lacking; what is granted is added, and the crew goes on."""
    asked: list[BudgetRequest] = []

    def ask(request: BudgetRequest) -> int:
        asked.append(request)
        return request.lacking + 1_000 if len(asked) == 1 else 0

    with FakeOpenAI(loops) as server:
        team = looping(server)
        budget = {"max_tokens": 1_000, "on_exceeded": "ask"}
        with (
            govern_crew(team, budgets={"Writer": budget}, ask_fn=ask) as run,
            pytest.raises(CrewBudgetExceededError),
        ):
            team.kickoff()
        assert [request.agent_name for request in asked] == ["Writer", "Writer"]
        account = run.manager.accounts()["Writer"]
        assert account.allocated == 1_000 + asked[0].lacking + 1_000
        assert len(server.log) >= 4
        check_books(run, server)


def test_parallel_calls_ask_one_at_a_time(llm: Make, agent: Make, crew: Make) -> None:
    """One grant that is enough for all is asked for once, however many calls wait for it."""
    asking = threading.Event()
    go_on = threading.Event()
    asked: list[BudgetRequest] = []

    def ask(request: BudgetRequest) -> int:
        asked.append(request)
        asking.set()
        assert go_on.wait(60)
        return 50_000

    with FakeOpenAI(lambda request: "Done.") as server:
        writer = agent("Writer", llm=llm(base_url=server.base_url))
        budget = {"max_tokens": 1, "on_exceeded": "ask"}
        with govern_crew(crew(writer), budgets={"Writer": budget}, ask_fn=ask) as run:
            call = run.wrap(lambda: writer.llm.call("Say hello.", from_agent=writer))
            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            assert asking.wait(60)
            while run.manager.accounts()["Writer"].denials < 4:
                asking.wait(0.01)
            go_on.set()
            for thread in threads:
                thread.join()
        assert len(asked) == 1
        assert len(server.log) == 4
        check_books(run, server)


class Terminal(io.StringIO):
    """Somebody at a terminal, with what they type."""

    def isatty(self) -> bool:
        """Return that this is one."""
        return True


def test_the_terminal_is_asked(looping: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an `ask_fn`, whoever sits there is asked until the answer is a number."""
    monkeypatch.setattr(sys, "stdin", Terminal("lots\n9,000\n\n"))
    with FakeOpenAI(loops) as server:
        team = looping(server)
        team.agents[0].max_iter = 5
        with govern_crew(
            team, budgets={"Writer": {"max_tokens": 1_000, "on_exceeded": "ask"}}
        ) as run:
            team.kickoff()
        assert run.manager.accounts()["Writer"].allocated == 10_000
        check_books(run, server)


def test_without_a_terminal_nobody_is_asked(
    looping: Make, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal says that nobody could be asked, and what helps."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("9000\n"))
    team = looping(server)
    with (
        govern_crew(team, budgets={"Writer": {"max_tokens": 1, "on_exceeded": "ask"}}),
        pytest.raises(CrewBudgetExceededError) as caught,
    ):
        team.kickoff()
    assert "ask_fn" in caught.value.remedy
    assert not server.log


def test_an_ask_fn_that_fails_sends_nothing(looping: Make, server: FakeOpenAI) -> None:
    """An answer that is no number of tokens stops the call, as everything undecided does."""
    from tbcontracts_crewai import CrewGateError

    wrong: Any = lambda request: "many"  # noqa: E731
    team = looping(server)
    with (
        govern_crew(
            team, budgets={"Writer": {"max_tokens": 1, "on_exceeded": "ask"}}, ask_fn=wrong
        ) as run,
        pytest.raises(CrewGateError),
    ):
        team.kickoff()
    assert not server.log
    assert run.manager.accounts()["Writer"].held == 0


@pytest.mark.parametrize("on_exceeded", ["end", "ask"])
def test_a_manager_goes_on_where_that_was_asked_for(
    llm: Make, agent: Make, on_exceeded: str
) -> None:
    """A coworker at its end does not stop its manager, unless its contract says "raise"."""

    def delegate(request: ScriptedRequest) -> Answer:
        if any(role == "tool" for role, _ in request.messages):
            return Answer(text="Without the worker, then.")
        arguments = {"task": "Look.", "context": "None.", "coworker": "Worker"}
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=arguments)])

    with FakeOpenAI({"You are Crew Manager.": delegate, "You are Worker.": "Seen."}) as server:
        model = llm(base_url=server.base_url)
        team = Crew(
            agents=[agent("Worker", llm=model)],
            tasks=[Task(description="d", expected_output="e")],
            process=Process.hierarchical,
            manager_llm=model,
        )
        nothing = {"max_tokens": 1, "on_exceeded": on_exceeded, "priority": 1}
        budgets: dict[str, Any] = {"Worker": nothing, "Crew Manager": {**PLENTY, "priority": 2}}
        with govern_crew(team, budgets=budgets, ask_fn=lambda _: 0) as run:
            result = team.kickoff()
        assert str(result) == "Without the worker, then."
        assert len(server.log) == 2
        check_books(run, server)


def test_a_kickoff_is_resumed_on_the_same_books(
    llm: Make, agent: Make, crew: Make, tmp_path: Any
) -> None:
    """After a top-up the crew's checkpoint goes on where the refusal was, on the same books."""
    with FakeOpenAI(lambda request: "Done.") as server:
        model = llm(base_url=server.base_url)
        agents = [Agent(role=role, goal="g", backstory="b", llm=model) for role in ("One", "Two")]
        team = crew(*agents, checkpoint=CheckpointConfig(location=str(tmp_path)))
        budgets = {"One": {**PLENTY, "priority": 2}, "Two": {"max_tokens": 1, "priority": 1}}
        manager = BudgetManager()
        with govern_crew(team, manager, budgets=budgets), pytest.raises(CrewBudgetExceededError):
            team.kickoff()
        assert len(server.log) == 1
        manager.top_up("Two", 10_000)
        saved = sorted(tmp_path.rglob("*.json"))
        resumed = Crew.from_checkpoint(CheckpointConfig(restore_from=str(saved[-1])))
        with govern_crew(resumed, manager) as run:
            resumed.kickoff()
        assert len(server.log) == 2
        assert [task.output is not None for task in resumed.tasks] == [True, True]
        assert {name: account.consumed > 0 for name, account in manager.accounts().items()} == {
            "One": True,
            "Two": True,
        }
        check_books(run, server)
