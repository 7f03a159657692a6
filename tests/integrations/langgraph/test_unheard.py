"""What budgets would not hear of an application is said before it runs."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langgraph import agents_of, budget

KEY = SecretStr("test")


class Awaited(AsyncCallbackHandler):
    """Somebody's handler that means to stop calls, and is heard only where they are awaited."""

    raise_error = True

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Stop the call."""
        raise RuntimeError


class Quiet(Awaited):
    """The same, which stops nothing."""

    raise_error = False


def graph_of(*models: ChatOpenAI) -> Any:
    """Return a graph with a node for each model, and an agent on the first one."""
    builder = StateGraph(MessagesState)
    for number, model in enumerate(models):
        builder.add_node(f"node-{number}", bound(model), metadata=budget(max_tokens=500))
        builder.add_edge(START, f"node-{number}")
    agent = create_agent(models[0], [], name="agent")
    builder.add_node("agent", agent, metadata=budget(max_tokens=500))
    return builder.compile()


def bound(model: ChatOpenAI) -> Any:
    """Return a node that asks a model."""
    return lambda state: {"messages": [model.invoke(state["messages"])]}


def test_streams_without_usage_are_named_with_their_places() -> None:
    """ChatOpenAI at another address asks for none, unless it is told to."""
    elsewhere = "http://localhost:1"
    silent = ChatOpenAI(model="m", base_url=elsewhere, api_key=KEY)
    told = ChatOpenAI(model="m", base_url=elsewhere, api_key=KEY, stream_usage=True)
    (said,) = agents_of(graph_of(silent, told, ChatOpenAI(model="m", api_key=KEY))).findings
    assert said == (
        "ChatOpenAI asks for no usage in streams (node-0, agent/model): streamed calls are charged "
        "by estimate. What helps: ChatOpenAI(stream_usage=True)."
    )


@pytest.mark.parametrize(("handler", "count"), [(Awaited(), 1), (Quiet(), 0)])
def test_a_handler_that_is_only_awaited_is_told(handler: BaseCallbackHandler, count: int) -> None:
    """What it raises is dropped in a graph that is not awaited; one that raises nothing is fine."""
    graph = graph_of(ChatOpenAI(model="m", api_key=KEY))
    found = agents_of(graph.with_config({"callbacks": [handler]})).findings
    assert len(found) == count
    assert all("Awaited can only be awaited" in sentence for sentence in found)


def test_our_own_gate_without_its_guard_is_told() -> None:
    """The pair of `budget_callbacks` hears all calls; half of it does not."""
    manager = BudgetManager(store=SlowStore())
    gate, guard = budget_callbacks(manager)
    graph = graph_of(ChatOpenAI(model="m", api_key=KEY))
    (said,) = agents_of(graph.with_config({"callbacks": [gate]})).findings
    assert "budget_callbacks(manager)" in said
    assert agents_of(graph.with_config({"callbacks": [gate, guard]})).findings == ()
