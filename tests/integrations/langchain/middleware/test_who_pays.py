"""Who pays under `BudgetMiddleware`: names, agents inside agents, threads, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from tests.integrations.langchain.middleware.conftest import (
    ask_agent,
    assert_true,
    caps,
    chat,
    governed,
    look_up,
)

from tbcontracts import UnknownAgentError
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetedChatModel, BudgetMiddleware, budget_callbacks


def test_without_a_name_the_agents_own_name_pays(server: FakeOpenAI) -> None:
    """As the handler does it: by the name given to create_agent."""
    manager = governed(max_output_tokens=30)
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager)], name="a")
    ask_agent(agent)
    assert_true(manager, server)


def test_an_agent_without_a_contract_is_tracked(server: FakeOpenAI) -> None:
    """There is no budget to wind down with: its calls are on a line of their own."""
    manager = governed()
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager)], name="stranger")
    with pytest.warns(UserWarning, match="'stranger' has no contract"):
        ask_agent(agent)
    assert manager.accounts()["stranger"].consumed == server.billed_tokens


def test_each_agent_pays_for_itself_when_one_calls_the_other() -> None:
    """A sub-agent inside a tool has its own middleware, contract and end."""

    def script(request: ScriptedRequest) -> Answer:
        if "delegate" in request.tools and "helped" not in str(request.messages):
            return Answer(tool_calls=[ToolCall(name="delegate", arguments={"work": "all"})])
        return Answer(text="helped")

    with FakeOpenAI(script) as server:
        manager = governed(max_output_tokens=40)
        manager.register_agent("sub", max_tokens=2_000, max_output_tokens=40)
        model = chat(server)
        sub = create_agent(
            model, middleware=[BudgetMiddleware(manager, "sub")], system_prompt="sub"
        )

        @tool
        def delegate(work: str) -> str:
            """Have somebody else do it."""
            given: Any = {"messages": [HumanMessage(work)]}
            return str(sub.invoke(given)["messages"][-1].text)

        agent = create_agent(model, [delegate], middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent)
        billed = server.billed_by(lambda request: request.system_text)
        accounts = manager.accounts()
        assert accounts["sub"].consumed == billed["sub"] > 0
        assert accounts["a"].consumed == billed[""] > 0


def test_a_budgeted_model_inside_is_not_counted_twice(server: FakeOpenAI) -> None:
    """The model caps and holds for itself; the middleware still ends the agent."""
    manager = governed(max_tokens=800, min_reserve=300, max_output_tokens=40, on_exceeded="end")
    model = BudgetedChatModel(inner=chat(server), manager=manager, agent="a")
    agent = create_agent(model, [look_up], middleware=[BudgetMiddleware(manager, "a")])
    assert ask_agent(agent)["messages"][-1].text == "This is what I found."
    assert all(cap is not None and cap <= 40 for cap in caps(server))
    assert_true(manager, server)


def test_threads_have_books_of_their_own(server: FakeOpenAI) -> None:
    """The scope of the run's handler is the one that the middleware looks at."""
    manager = governed(max_tokens=300)
    agent = create_agent(
        chat(server, max_completion_tokens=4_000), middleware=[BudgetMiddleware(manager, "a")]
    )
    for thread in ("1", "2"):
        callbacks = budget_callbacks(manager, scope_by="thread_id")
        ask_agent(agent, {"callbacks": callbacks, "configurable": {"thread_id": thread}})
    consumed = [manager.scope(f"default/{t}").accounts()["a"].consumed for t in ("1", "2")]
    assert sum(consumed) == server.billed_tokens
    assert all(250 < (cap or 0) < 300 for cap in caps(server))
    assert manager.accounts()["a"].consumed == 0


def test_what_cannot_be_is_said_at_once(server: FakeOpenAI) -> None:
    """Mistakes come out when the middleware is made."""
    manager = governed()
    with pytest.raises(TypeError, match="manager must be"):
        BudgetMiddleware("manager")  # type: ignore[arg-type]
    with pytest.raises(UnknownAgentError, match="Did you mean"):
        BudgetMiddleware(manager, "A")
    with pytest.raises(ValueError, match="min_output_tokens"):
        BudgetMiddleware(manager, "a", min_output_tokens=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        BudgetMiddleware(manager, "a", downgrade_below=1.5)
    with pytest.raises(TypeError, match="downgrade_below"):
        BudgetMiddleware(manager, "a", downgrade_below=True)
    with pytest.raises(TypeError, match="downgrade_to"):
        BudgetMiddleware(manager, "a", downgrade_to=7)
    with pytest.raises(ValueError, match="on_exceeded"):
        BudgetMiddleware(manager, "a", on_exceeded="stop")
