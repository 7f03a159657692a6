"""A budget that ends by raising, through retries and handlers, with the log as the truth."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import langchain_core.exceptions
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy
from tests.integrations.langgraph.budget_ends.nodes import THREAD, WAYS, State, asks, builder_of

from tbcontracts import BudgetExceededError
from tbcontracts_langgraph import budget, budgeted, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


@pytest.mark.parametrize("way", WAYS)
def test_raise_goes_through_retries_and_resumes_after_a_top_up(world: Any, way: str) -> None:
    """Tried once; `invoke(None)` after a top-up goes on at the node, on the same books."""
    entered: list[str] = []
    inner = asks(world, "w")

    def node(state: State) -> Any:
        entered.append("work")
        return inner(state)

    builder = builder_of(world, way, node, max_tokens=10)
    builder.nodes["work"].retry_policy = RetryPolicy(initial_interval=0.001, max_attempts=3)
    app = govern_graph(builder, world.manager, checkpointer=InMemorySaver())
    with pytest.raises(BudgetExceededError):
        app.invoke({"notes": []}, THREAD)
    assert entered == ["work"]
    assert app.get_state(THREAD).next == ("work",)
    world.manager.top_up("worker", 1_000)
    assert app.invoke(None, THREAD)["notes"] == ["w 1", "next"]
    assert world.consumed == {"worker": world.server.billed_tokens}


@pytest.mark.parametrize("way", WAYS)
def test_raise_reaches_the_error_handler(world: Any, way: str) -> None:
    """LangGraph's own way to go elsewhere sees the refusal, which says whose it was."""
    seen: list[str] = []
    builder = StateGraph(State)
    node = asks(world, "w")
    extra: dict[str, Any] = {"metadata": budget("worker", max_tokens=10)}
    if way == "budgeted":
        node = budgeted(world.manager, "worker", max_tokens=10)(node)
        extra = {}
    try:
        from langgraph.errors import NodeError
    except ImportError:
        pytest.skip(f"langgraph {version('langgraph')} has no error handlers")

    def handler(state: State, error: NodeError) -> Command[Any]:
        assert isinstance(error.error, BudgetExceededError)
        seen.append(error.error.agent_name)
        return Command(goto="cheap")

    builder.add_node("work", node, error_handler=handler, **extra)
    builder.add_node("cheap", lambda state: {"notes": ["cheap"]})
    builder.add_node("next", lambda state: {"notes": ["next"]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "next")
    app = govern_graph(builder, world.manager)
    assert app.invoke({"notes": []})["notes"] == ["cheap"]
    assert seen == ["worker"]


@pytest.mark.skipif(
    not hasattr(langchain_core.exceptions, "ModelError"),
    reason=f"langchain-core {version('langchain-core')} has no error that is not retried",
)
def test_model_retry_middleware_does_not_retry_a_refusal(world: Any) -> None:
    """LangChain's retry middleware lets the refusal of a budgeted agent pass at once."""
    agent = create_agent(world.model, [], middleware=[ModelRetryMiddleware(max_retries=3)])
    builder = StateGraph(MessagesState)
    builder.add_node("n", budgeted(world.manager, "agent", max_tokens=1)(agent))
    builder.add_edge(START, "n")
    with pytest.raises(BudgetExceededError):
        builder.compile().invoke({"messages": [HumanMessage("go")]})
    assert world.manager.accounts()["agent"].denials == 1
