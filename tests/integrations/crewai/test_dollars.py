"""A real crew under budgets in dollars: the provider's log, times its prices, is the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from tbcontracts import BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_crewai import CrewBudgetExceededError, govern_crew

Make = Callable[..., Any]
PRICES = {"gpt-4o-mini": {"input": "0.15", "output": "0.60", "cached_input": "0.075"}}


def in_usd(**settings: Any) -> BudgetManager:
    """Return a manager in dollars."""
    return BudgetManager(unit="usd", **{"prices": PRICES, **settings})


def billed(server: FakeOpenAI) -> int:
    """Return what the provider bills for all it answered."""
    return sum(
        ceil(
            (request.input_tokens - request.cached_tokens) * Fraction("0.15")
            + request.cached_tokens * Fraction("0.075")
            + request.output_tokens * Fraction("0.6")
        )
        for request in server.log
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"stream": True}, {"is_litellm": True}, {"api": "responses"}],
    ids=["chat", "streamed", "litellm", "responses"],
)
def test_a_crew_is_charged_what_its_calls_cost(
    llm: Make, agent: Make, crew: Make, settings: dict[str, Any]
) -> None:
    """Two roles on one model, cached input at its own rate; budgets as text or as numbers."""
    answer = Answer(text="Done.", input_tokens=1_000, output_tokens=50, cached_tokens=400)
    with FakeOpenAI(lambda _: answer) as server:
        model = llm(base_url=server.base_url, **settings)
        team = crew(agent("Writer", llm=model), agent("Editor", llm=model))
        budgets: dict[str, Any] = {
            "Writer": {"max_usd": "0.50"},
            "Editor": {"max_usd": 0.5, "priority": 2},
        }
        with govern_crew(team, in_usd(), budgets=budgets) as run:
            team.kickoff()
        assert len(server.log) == 2
        accounts = run.manager.accounts()
        assert sum(account.consumed for account in accounts.values()) == billed(server)
        for account in accounts.values():
            assert account.consumed == account.cost_micro_usd == 150
            assert (account.held, account.unmeasured, account.unpriced_tokens) == (0, 0, 0)
            assert account.allocated == 500_000


def test_of_40_parallel_tasks_exactly_two_are_sent(llm: Make, agent: Make, crew: Make) -> None:
    """Each may cost some $0.0012 on $0.003, all started before the first answer."""
    release = threading.Event()
    with FakeOpenAI(lambda _: Answer(text="Done.", hold=release)) as server:
        writers = [
            agent("Writer", llm=llm(base_url=server.base_url, max_completion_tokens=1_900))
            for _ in range(40)
        ]
        teams = [crew(writer) for writer in writers]
        run = govern_crew(teams[0], in_usd(), budgets={"Writer": {"max_usd": Decimal("0.003")}})
        refused = threading.Semaphore(0)
        errors: list[CrewBudgetExceededError] = []

        def kickoff(team: Any) -> None:
            try:
                team.kickoff()
            except CrewBudgetExceededError as error:
                errors.append(error)
                refused.release()

        with run:
            start_one = run.wrap(kickoff)
            threads = [threading.Thread(target=start_one, args=(team,)) for team in teams]
            for thread in threads:
                thread.start()
            for _ in range(38):
                assert refused.acquire(timeout=60)
            server.wait_for_requests(2)
            release.set()
            for thread in threads:
                thread.join()
        assert len(server.log) == 2
        assert run.manager.accounts()["Writer"].consumed == billed(server)
        assert errors[0].unit == "usd"
        assert "does not cover this LLM call: $0.00" in str(errors[0])
        assert "Decimal(" in errors[0].remedy


def test_a_model_without_a_price_is_not_called(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """The remedy names the entry that the price table lacks."""
    team = crew(agent("Writer"))
    manager = in_usd(prices={"other": {"input": 1, "output": 1}})
    manager._engine.prices = None  # whatever list of known models is installed here
    with (
        govern_crew(team, manager, budgets={"Writer": {"max_usd": "1"}}),
        pytest.raises(CrewBudgetExceededError) as refused,
    ):
        team.kickoff()
    assert refused.value.code == "unknown_price"
    assert "what this LLM call costs is not known" in str(refused.value)
    assert 'prices={"gpt-4o-mini"' in refused.value.remedy
    assert not server.log


def test_a_cap_is_lowered_to_what_the_dollars_pay_for(llm: Make, agent: Make, crew: Make) -> None:
    """The call goes out with a shorter answer instead of being refused."""
    with FakeOpenAI(lambda _: Answer(text="Done.", fill=True, input_tokens=5)) as server:
        team = crew(agent("Writer", llm=llm(base_url=server.base_url, max_completion_tokens=5_000)))
        budgets = {"Writer": {"max_usd": "0.0006"}}
        with govern_crew(team, in_usd(), budgets=budgets, clamp=True) as run:
            team.kickoff()
        (sent,) = server.log
        assert 64 < sent.output_tokens < 1_000
        assert run.manager.accounts()["Writer"].consumed == billed(server) <= 600


def test_dollars_on_a_manager_in_tokens_are_refused(agent: Make, crew: Make) -> None:
    """At set-up, with what helps."""
    team = crew(agent("Writer"))
    with pytest.raises(ConfigurationError, match=r'BudgetManager\(unit="usd"\)'):
        govern_crew(team, budgets={"Writer": {"max_usd": "1"}})
    with pytest.raises(ConfigurationError, match="is in tokens"):
        govern_crew(team, in_usd(), budgets={"Writer": {"max_tokens": 5}})
    with pytest.raises(ValueError, match="six decimal places"):
        govern_crew(team, in_usd(), budgets={"Writer": {"max_usd": 0.1 + 0.2}})
