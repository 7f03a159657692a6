"""Output caps that are lowered to what is left, for one call and for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from crewai import Task
from crewai.llms.base_llm import BaseLLM

from tbcontracts import clamping
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_crewai import CrewBudgetExceededError, govern_crew
from tbcontracts_crewai.usage import output_cap, with_output_cap

Make = Callable[..., Any]
CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
WAYS = [{}, {"stream": True}, {"is_litellm": True}, {"api": "responses"}]
NAMES = ["chat", "streamed", "litellm", "responses"]


def sent_caps(server: FakeOpenAI) -> list[int | None]:
    """Return the output cap of every request, as it was sent."""
    return [
        next((int(request.body[name]) for name in CAPS if name in request.body), None)
        for request in server.log
    ]


@pytest.mark.parametrize("settings", WAYS, ids=NAMES)
@pytest.mark.parametrize("own", [900, None], ids=["capped", "uncapped"])
def test_a_cap_is_lowered_to_what_is_left(
    server: FakeOpenAI, llm: Make, agent: Make, crew: Make, settings: dict[str, Any], own: Any
) -> None:
    """What would not fit goes with the cap that does, and the model keeps its own."""
    model = llm(max_completion_tokens=own, **settings)
    team = crew(agent("Writer", llm=model))
    with govern_crew(team, budgets={"Writer": {"max_tokens": 800}}, clamp=True) as run:
        team.kickoff()
    (cap,) = sent_caps(server)
    assert cap is not None
    assert 64 <= cap < 800
    assert (model.max_tokens, model.max_completion_tokens) == (None, own)
    account = run.manager.accounts()["Writer"]
    assert (account.consumed, account.held) == (server.billed_tokens, 0)
    held = next(entry.amount for entry in run.manager.journal() if entry.kind == "held")
    assert held <= 800
    assert team.usage_metrics.total_tokens == server.billed_tokens  # the copy counts for its model


def test_nothing_is_clamped_unasked(server: FakeOpenAI, llm: Make, agent: Make, crew: Make) -> None:
    """Without `clamp=True` a call that does not fit is refused, and no cap is sent of our own."""
    team = crew(agent("Writer", llm=llm(max_completion_tokens=900)))
    with (
        govern_crew(team, budgets={"Writer": {"max_tokens": 800}}),
        pytest.raises(CrewBudgetExceededError),
    ):
        team.kickoff()
    assert not server.log


def test_a_cap_is_never_raised(server: FakeOpenAI, llm: Make, agent: Make, crew: Make) -> None:
    """A cap that fits goes out as it is."""
    team = crew(agent("Writer", llm=llm(max_completion_tokens=100)))
    with govern_crew(team, budgets={"Writer": {"max_tokens": 50_000}}, clamp=True):
        team.kickoff()
    assert sent_caps(server) == [100]


def test_below_the_shortest_answer_a_call_is_refused(
    server: FakeOpenAI, llm: Make, agent: Make, crew: Make
) -> None:
    """A cap is not lowered below `min_output_tokens`."""
    team = crew(agent("Writer", llm=llm(max_completion_tokens=900)))
    with (
        govern_crew(
            team, budgets={"Writer": {"max_tokens": 800}}, clamp=True, min_output_tokens=780
        ),
        pytest.raises(CrewBudgetExceededError),
    ):
        team.kickoff()
    assert not server.log
    with pytest.raises(ValueError, match="min_output_tokens"):
        govern_crew(team, clamp=True, min_output_tokens=0)


def test_parallel_tasks_on_one_model_have_caps_of_their_own(
    llm: Make, agent: Make, crew: Make
) -> None:
    """Of roles that share a model each is clamped by its own budget, all at the same time."""
    release = threading.Event()
    roles = {f"Writer{number}": 700 + 40 * number for number in range(8)}
    with FakeOpenAI(lambda request: Answer(text="Done.", hold=release)) as server:
        model = llm(base_url=server.base_url, max_completion_tokens=5_000)
        writers = [agent(role, llm=model) for role in roles]
        last = agent("Last", llm=model)
        tasks = [
            Task(description="d", expected_output="e", agent=writer, async_execution=True)
            for writer in writers
        ]
        tasks.append(Task(description="d", expected_output="e", agent=last))
        team = crew(*writers, last, tasks=tasks)
        budgets: dict[str, Any] = {
            role: {"max_tokens": tokens, "min_reserve": tokens} for role, tokens in roles.items()
        }
        budgets["Last"] = {"max_tokens": 10_000, "min_reserve": 10_000}
        with govern_crew(team, budgets=budgets, clamp=True) as run:
            kickoff = threading.Thread(target=run.wrap(team.kickoff))
            kickoff.start()
            try:
                server.wait_for_requests(len(roles))
            finally:
                release.set()
                kickoff.join()
        caps = {
            request.system_text: cap or 0
            for request, cap in zip(server.log, sent_caps(server), strict=True)
        }
        by_role = [
            next(cap for text, cap in caps.items() if f"You are {role}." in text) for role in roles
        ]
        # The prompts differ by their numbers alone, and the budgets by 40 each.
        steps = {later - earlier for earlier, later in pairwise(by_role)}
        assert steps == {40}
        assert model.max_completion_tokens == 5_000
        assert all(account.overdraft == 0 for account in run.manager.accounts().values())


def test_calls_of_one_budget_share_what_is_left(
    llm: Make, agent: Make, crew: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that lost what it had counted on to another one is clamped again, not refused."""
    release = threading.Event()
    both_have_read = threading.Barrier(2)
    reads: list[int | None] = []

    def read(*args: Any, **kwargs: Any) -> int | None:
        cap = clamping.output_cap(*args, **kwargs)
        reads.append(cap)
        if len(reads) <= 2:
            both_have_read.wait(60)
        return cap

    monkeypatch.setattr("tbcontracts_crewai.clamping.output_cap", read)
    with FakeOpenAI(lambda request: Answer(text="Done.", hold=release)) as server:
        model = llm(base_url=server.base_url, max_completion_tokens=2_000)
        writer = agent("Writer", llm=model)
        budget = {"max_tokens": 1_500, "max_output_tokens": 1_000}
        with govern_crew(crew(writer), budgets={"Writer": budget}, clamp=True) as run:
            call = run.wrap(lambda: model.call("Say hello.", from_agent=writer))
            threads = [threading.Thread(target=call) for _ in range(2)]
            for thread in threads:
                thread.start()
            try:
                server.wait_for_requests(2)
            finally:
                release.set()
                for thread in threads:
                    thread.join()
        assert reads[:2] == [1_000, 1_000]
        lower, higher = sorted(cap or 0 for cap in sent_caps(server))
        assert higher == 1_000
        assert 400 < lower < 500
        assert run.manager.accounts()["Writer"].consumed == server.billed_tokens


def test_a_last_answer_is_clamped_to_the_reserve(
    server: FakeOpenAI, llm: Make, agent: Make, crew: Make
) -> None:
    """Under "end" the closing call takes what the reserve can pay for."""
    team = crew(agent("Writer", llm=llm(max_completion_tokens=900)))
    budget = {"max_tokens": 600, "min_reserve": 600, "on_exceeded": "end"}
    with govern_crew(team, budgets={"Writer": budget}, clamp=True) as run:
        team.kickoff()
    (cap,) = sent_caps(server)
    assert cap is not None
    assert 64 <= cap < 600
    assert run.manager.accounts()["Writer"].consumed == server.billed_tokens


def test_models_of_your_own_are_left_alone(agent: Make, crew: Make) -> None:
    """Nobody knows whether a class of the user's own keeps a cap: its calls are not changed."""

    class Own(BaseLLM):
        def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            return "done"

    team = crew(agent("Writer", llm=Own(model="own", max_tokens=900)))
    with (
        govern_crew(team, budgets={"Writer": {"max_tokens": 800}}, clamp=True),
        pytest.raises(CrewBudgetExceededError),
    ):
        team.kickoff()


def test_caps_by_their_providers_names(llm: Make) -> None:
    """The cap that is read is the one that is sent, and so is the one that is set."""
    both = llm(max_tokens=7, max_completion_tokens=500)
    assert output_cap(both) == 500
    assert output_cap(with_output_cap(both, 70)) == 70
    assert output_cap(llm()) is None
    newest = with_output_cap(llm(base_url=None), 70)
    assert (newest.max_tokens, newest.max_completion_tokens) == (None, 70)

    class Gemini(SimpleNamespace):
        model_fields = {"max_output_tokens": None}  # noqa: RUF012

    assert output_cap(Gemini(max_output_tokens=9, max_tokens=99)) == 9
    assert output_cap(Gemini(max_output_tokens=None, max_tokens=99)) is None
