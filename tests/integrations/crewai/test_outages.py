"""A crew while the store does not answer: no call goes out, or what it used is posted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crewai import LLM

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest
from tbcontracts.testing.unreliable_store import UnreliableStore
from tbcontracts_crewai import CrewStoreError, govern_crew

Make = Callable[..., Any]
PLENTY = {"max_tokens": 50_000}


def test_no_call_of_a_crew_goes_out(server: FakeOpenAI, agent: Make, crew: Make) -> None:
    """The kickoff ends with an error that says so; the provider gets no request."""
    store = UnreliableStore()
    manager = BudgetManager(store=store)
    team = crew(agent("Writer"))
    with govern_crew(team, manager, budgets={"Writer": PLENTY}):
        store.down = True
        with pytest.raises(CrewStoreError, match="did not answer"):
            team.kickoff()
        assert server.log == ()
        store.down = False
        team.kickoff()
    assert manager.report()["Writer"]["consumed"] == server.billed_tokens


def test_a_crew_keeps_its_answer_and_its_usage_is_posted(agent: Make, crew: Make) -> None:
    """The store goes away during the only call: the kickoff ends well, the books catch up."""
    store = UnreliableStore()

    def answer(_request: ScriptedRequest) -> Answer:
        store.down = True
        return Answer(text="Thought: I can answer.\nFinal Answer: Words.")

    with FakeOpenAI(answer) as server:
        manager = BudgetManager(store=store)
        llm = LLM(model="openai/gpt-4o-mini", base_url=server.base_url, api_key="test")
        team = crew(agent("Writer", llm=llm))
        with govern_crew(team, manager, budgets={"Writer": PLENTY}):
            assert "Words." in str(team.kickoff())
        assert manager.unposted.tokens == server.billed_tokens
        store.down = False
        assert manager.flush()
        account = manager.accounts()["Writer"]
        assert (account.consumed, account.held) == (server.billed_tokens, 0)


@pytest.mark.parametrize("settings", [{"on_store_error": "allow"}, {"enforcement": "observe"}])
def test_a_crew_goes_on_where_it_may(
    server: FakeOpenAI, agent: Make, crew: Make, settings: dict[str, str]
) -> None:
    """Its calls go out without holds, and are on the books afterwards."""
    store = UnreliableStore()
    manager = BudgetManager(store=store, **settings)  # type: ignore[arg-type]
    team = crew(agent("Writer"))
    with govern_crew(team, manager, budgets={"Writer": PLENTY}):
        store.down = True
        team.kickoff()
    assert manager.unposted.unheld == len(server.log) > 0
    store.down = False
    assert manager.flush()
    assert manager.report()["Writer"]["consumed"] == server.billed_tokens
