"""Graphs under budgets in dollars: annotations, nodes whose calls nobody sees, and a question."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langgraph import budget, budgeted, govern_graph

PRICES = {"m": {"input": "10", "output": "10"}}


def in_usd() -> BudgetManager:
    """Return a manager in dollars."""
    return BudgetManager(unit="usd", prices=PRICES)


def graph(server: FakeOpenAI, **annotation: Any) -> StateGraph[MessagesState]:
    """Return a graph with one annotated node that asks a model."""
    model = ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="m",
        max_completion_tokens=50,
        max_retries=0,
    )
    builder = StateGraph(MessagesState)
    node = lambda state: {"messages": [model.invoke(state["messages"])]}  # noqa: E731
    builder.add_node("a", node, metadata=budget(**annotation))
    builder.add_edge(START, "a")
    return builder


@pytest.mark.parametrize("max_usd", ["0.50", Decimal("0.5")])
def test_an_annotation_in_dollars(max_usd: Any) -> None:
    """It is plain data, as text, and the node is charged what its call costs."""
    annotation = budget("a", max_usd=max_usd, min_reserve_usd="0.1", priority=2)
    assert json.loads(json.dumps(annotation)) == annotation
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=10, output_tokens=5)) as server:
        manager = in_usd()
        app = govern_graph(graph(server, max_usd=max_usd, min_reserve_usd="0.1"), manager)
        app.invoke({"messages": [HumanMessage("go")]})
        account = manager.accounts()["a"]
        assert (account.allocated, account.consumed, account.held) == (500_000, 150, 0)
        assert account.contract is not None
        assert account.contract.reserve == 100_000


def test_annotations_that_cannot_be() -> None:
    """A float, both units at once, a unit that is not the manager's."""
    with pytest.raises(TypeError, match="float"):
        budget("a", max_usd=0.5)
    with pytest.raises(ValueError, match="is in tokens, and these budgets are in dollars"):
        budget("a", max_usd="1", max_tokens=5)
    with pytest.raises(ValueError, match="no max_tokens or max_usd"):
        budget("a", priority=3)
    with FakeOpenAI() as server, pytest.raises(ConfigurationError, match="counts tokens"):
        govern_graph(graph(server, max_usd="1"), BudgetManager())


def test_a_question_is_answered_in_dollars() -> None:
    """The request says its unit; text from a form is a sum, and nonsense is asked about again."""
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=10, output_tokens=5)) as server:
        manager = in_usd()
        builder = graph(server, max_usd="0.0001", on_exceeded="ask")
        app = govern_graph(builder, manager, checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        (question,) = app.invoke({"messages": [HumanMessage("go")]}, config)["__interrupt__"]
        assert question.value["unit"] == "usd"
        assert "$0.0001 can be reached" in question.value["reason"]
        (again,) = app.invoke(Command(resume="much"), config)["__interrupt__"]
        assert 'dollars, such as "0.50"' in again.value["problem"]
        assert not server.log
        app.invoke(Command(resume="$0.01"), config)
        account = manager.accounts()["a"]
        assert (account.allocated, account.consumed) == (10_100, 150)


def test_a_node_whose_calls_nobody_sees_names_its_model() -> None:
    """Without it nobody knows what it will cost, and it does not run."""
    ran: list[str] = []

    def node(_: Any) -> dict[str, Any]:
        ran.append("a")
        return {"messages": ["x"]}

    for model, runs in ((None, 0), ("m", 1)):
        manager = in_usd()
        used = {"input_tokens": 10, "output_tokens": 5}
        wrap = budgeted(manager, "a", usage_fn=lambda _: used, model=model, max_usd="1")  # noqa: B023
        builder = StateGraph(MessagesState)
        governed_node: Any = wrap(node)
        builder.add_node("a", governed_node)
        builder.add_edge(START, "a")
        app: Any = govern_graph(builder, manager)
        if model is None:
            with pytest.raises(BudgetExceededError, match="names no model"):
                app.invoke({"messages": []})
        else:
            app.invoke({"messages": []})
            assert manager.accounts()["a"].consumed == 150
        assert len(ran) == runs
