"""A crew's call that cannot be paid for: not sent, not retried, not swallowed."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from crewai import Crew, Process, Task
from crewai.hooks import HookAborted
from crewai.hooks.dispatch import InterceptionPoint, scoped_hooks
from crewai.llms.base_llm import BaseLLM

from tbcontracts import BudgetExceededError, BudgetManager, StoreError
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_crewai import (
    CrewBudgetExceededError,
    CrewConfidenceGateError,
    CrewGateError,
    CrewStoreError,
    govern_crew,
)

Make = Callable[..., Any]
PLENTY = {"max_tokens": 50_000}
NOTHING = {"max_tokens": 1}


def test_a_refused_call_is_not_sent(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """The refusal leaves `kickoff()`, as our error and as CrewAI's; nothing was sent or held."""
    team = crew(agent("Writer"))
    with (
        govern_crew(team, budgets={"Writer": NOTHING}) as run,
        pytest.raises(CrewBudgetExceededError) as caught,
    ):
        team.kickoff()
    assert isinstance(caught.value, (BudgetExceededError, RuntimeError))
    assert isinstance(caught.value, HookAborted)
    assert caught.value.agent_name == "Writer"
    assert "manager.top_up('Writer'" in caught.value.remedy
    assert not server.log
    account = run.manager.accounts()["Writer"]
    assert (account.consumed, account.held, account.denials) == (0, 0, 1)


def test_what_was_finished_stays_readable(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """Tasks before the refusal keep their outputs and their charges."""
    team = crew(agent("Writer"), agent("Editor"))
    budgets = {"Writer": {**PLENTY, "priority": 2}, "Editor": {**NOTHING, "priority": 1}}
    with (
        govern_crew(team, budgets=budgets) as run,
        pytest.raises(CrewBudgetExceededError, match="not sent"),
    ):
        team.kickoff()
    assert [task.output is not None for task in team.tasks] == [True, False]
    assert len(server.log) == 1
    assert run.manager.accounts()["Writer"].consumed == server.billed_tokens


def test_a_role_that_reads_as_throttling_is_not_retried(
    server: FakeOpenAI, agent: Make, crew: Make
) -> None:
    """CrewAI sleeps and retries where an error speaks of rate limits; a role must not do that."""
    role = "Rate limit, too many requests and 429 Analyst"
    team = crew(agent(role))
    with (
        govern_crew(team, budgets={role: NOTHING}) as run,
        pytest.raises(CrewBudgetExceededError) as caught,
    ):
        team.kickoff()
    assert run.manager.accounts()[role].denials == 1
    assert "rate" not in str(caught.value).lower()
    assert caught.value.agent_name == role
    assert not server.log


def test_refusals_pickle(agent: Make, crew: Make) -> None:
    """A refusal crosses a process boundary whole."""
    team = crew(agent("Writer"))
    with (
        govern_crew(team, budgets={"Writer": NOTHING}),
        pytest.raises(CrewBudgetExceededError) as caught,
    ):
        team.kickoff()
    copied = pickle.loads(pickle.dumps(caught.value))
    assert type(copied) is CrewBudgetExceededError
    assert copied.facts() == caught.value.facts()
    assert str(copied) == str(caught.value)


def test_a_swallowed_refusal_ends_the_kickoff(llm: Make, agent: Make) -> None:
    """A delegation tool turns a refusal into text; the manager does not go on paying for it."""

    def delegate(request: ScriptedRequest) -> Answer:
        arguments = {"task": f"Look {request.index}.", "context": "None.", "coworker": "Worker"}
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=arguments)])

    with FakeOpenAI({"You are Crew Manager.": delegate, "You are Worker.": "Seen."}) as server:
        model = llm(base_url=server.base_url)
        worker = agent("Worker", llm=model)
        team = Crew(
            agents=[worker],
            tasks=[Task(description="d", expected_output="e")],
            process=Process.hierarchical,
            manager_llm=model,
        )
        budgets = {"Worker": {**NOTHING, "priority": 1}, "Crew Manager": {**PLENTY, "priority": 2}}
        with (
            govern_crew(team, budgets=budgets),
            pytest.raises(CrewBudgetExceededError) as caught,
        ):
            team.kickoff()
        assert len(server.log) == 1
        assert isinstance(caught.value.__cause__, CrewBudgetExceededError)
        assert caught.value.agent_name == caught.value.__cause__.agent_name == "Worker"


def test_of_40_parallel_calls_exactly_two_are_sent(llm: Make, agent: Make, crew: Make) -> None:
    """Calls of 2,000 on a budget of 5,000, all started before the first answer."""
    release = threading.Event()
    script = lambda request: Answer(text="Done.", hold=release)  # noqa: E731
    with FakeOpenAI(script) as server:
        writer = agent("Writer", llm=llm(base_url=server.base_url, max_completion_tokens=1_900))
        run = govern_crew(crew(writer), budgets={"Writer": {"max_tokens": 5_000}})
        refused: list[BaseException] = []
        all_refused = threading.Semaphore(0)
        start = threading.Barrier(40)

        def call() -> None:
            start.wait()
            try:
                writer.llm.call("Say hello.", from_agent=writer)
            except CrewBudgetExceededError as error:
                refused.append(error)
                all_refused.release()

        with run:
            threads = [threading.Thread(target=run.wrap(call)) for _ in range(40)]
            for thread in threads:
                thread.start()
            for _ in range(38):
                assert all_refused.acquire(timeout=60)
            server.wait_for_requests(2)
            release.set()
            for thread in threads:
                thread.join()
        assert len(refused) == 38
        assert len(server.log) == 2
        assert run.manager.accounts()["Writer"].consumed == server.billed_tokens


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [(StoreError("The store is away."), CrewStoreError), (ValueError("bug"), CrewGateError)],
)
def test_what_cannot_be_decided_is_not_sent(
    server: FakeOpenAI,
    agent: Make,
    crew: Make,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
    expected: type[Exception],
) -> None:
    """CrewAI lets a call go when a hook fails with a plain error; the gate does not."""

    def fail(*_: Any, **__: Any) -> None:
        raise trouble

    team = crew(agent("Writer"))
    monkeypatch.setattr(BudgetManager, "begin_call", fail)
    with govern_crew(team, budgets={"Writer": PLENTY}), pytest.raises(expected):
        team.kickoff()
    assert not server.log


def test_observe_mode_refuses_nothing(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """In observe mode the call goes, and the books say that it would have been refused."""
    manager = BudgetManager(enforcement="observe")
    team = crew(agent("Writer"))
    with govern_crew(team, manager, budgets={"Writer": NOTHING}):
        team.kickoff()
    assert len(server.log) == 1
    assert [entry.kind for entry in manager.journal() if "deny" in entry.kind] == ["would_deny"]
    assert manager.accounts()["Writer"].consumed == server.billed_tokens


def test_the_confidence_gate(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A role whose last answer was good enough sends no further call."""
    team = crew(agent("Writer"))
    budget = {**PLENTY, "confidence_threshold": 0.8}
    with govern_crew(team, budgets={"Writer": budget}) as run:
        team.kickoff()
        run.manager.report_confidence("Writer", 0.9)
        with pytest.raises(CrewConfidenceGateError) as caught:
            team.kickoff()
    assert (caught.value.score, caught.value.threshold) == (0.9, 0.8)
    assert len(server.log) == 1


def test_a_nested_block_of_one_manager_holds_once(
    server: FakeOpenAI, agent: Make, crew: Make
) -> None:
    """Two blocks of one manager around one crew hold and charge each call once."""
    manager = BudgetManager()
    team = crew(agent("Writer"))
    with (
        govern_crew(team, manager, budgets={"Writer": PLENTY}),
        govern_crew(team, manager, budgets={"Writer": PLENTY}),
    ):
        team.kickoff()
    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]
    assert manager.accounts()["Writer"].consumed == server.billed_tokens


def test_hooks_of_the_users_own_stay(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A scope of hooks around the block is not hidden by it."""
    seen: list[object] = []
    hooks = {InterceptionPoint.PRE_MODEL_CALL: [seen.append]}
    team = crew(agent("Writer"))
    with scoped_hooks(hooks), govern_crew(team, budgets={"Writer": PLENTY}):
        team.kickoff()
    assert len(seen) == len(server.log) == 1


def test_everything_is_put_back(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """After the block CrewAI is as it was, also when the block ends with an error."""
    before = dict(BaseLLM.__dict__)
    team = crew(agent("Writer"))
    with govern_crew(team, budgets={"Writer": NOTHING}) as run, pytest.raises(HookAborted):
        team.kickoff()
    assert dict(BaseLLM.__dict__) == before
    team.kickoff()
    assert len(server.log) == 1
    assert run.manager.accounts()["Writer"].consumed == 0


def test_a_refusal_of_another_run_does_not_stop_this_one(
    server: FakeOpenAI, agent: Make, crew: Make
) -> None:
    """A top-up after a refusal, and the next kickoff runs."""
    team = crew(agent("Writer"))
    with govern_crew(team, budgets={"Writer": NOTHING}) as run:
        with pytest.raises(CrewBudgetExceededError):
            team.kickoff()
        run.manager.top_up("Writer", 50_000)
        team.kickoff()
    assert len(server.log) == 1


def test_store_errors_come_from_the_store(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """A store that cannot answer stops the call, through the whole manager."""

    class Away(MemoryStore):
        def apply(self, *_: Any) -> Any:
            msg = "The store is away."
            raise StoreError(msg)

    team = crew(agent("Writer"))
    manager = BudgetManager(store=Away())
    with govern_crew(team, manager, budgets={"Writer": PLENTY}), pytest.raises(CrewStoreError):
        team.kickoff()
    assert not server.log


def test_naive_hooks_let_the_call_through(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """Why the gate is where it is: neither a bus handler nor a plain error stops a call."""
    from crewai.events import LLMCallStartedEvent, crewai_event_bus

    def refuse(*_: Any) -> None:
        msg = "over budget"
        raise ValueError(msg)

    team = crew(agent("Writer"))
    with crewai_event_bus.scoped_handlers():
        crewai_event_bus.on(LLMCallStartedEvent)(refuse)
        team.kickoff()
    assert len(server.log) == 1
    with scoped_hooks({InterceptionPoint.PRE_MODEL_CALL: [refuse]}):
        team.kickoff()
    assert len(server.log) == 2
