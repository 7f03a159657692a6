"""Whose a call in a graph is: its node, its annotation, its task, its tool."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from tests.integrations.langchain.attribution.conftest import (
    ASK,
    State,
    ask,
    asks,
    by_system,
    chat,
    consumed,
    manager_for,
    one_node,
    run,
)

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


def test_conditional_edges_belong_to_the_node_they_leave(server: FakeOpenAI) -> None:
    """A model that decides where to go is charged to the node before it."""
    model = chat(server)

    def route(state: State) -> str:
        ask(model, "first")
        return "second"

    builder = StateGraph(State)
    builder.add_node("one", asks(model, "first"), metadata=budget("first", max_tokens=9_000))
    builder.add_node("second", asks(model, "second"), metadata=budget(max_tokens=9_000))
    builder.add_edge(START, "one")
    builder.add_conditional_edges("one", route, ["second"])
    manager = BudgetManager()
    govern_graph(builder, manager).invoke({"notes": []})
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


def test_error_handlers_belong_to_the_node_that_failed(server: FakeOpenAI) -> None:
    """What a node's error handler asks is on the node's account."""
    model = chat(server)
    if "error_handler" not in inspect.signature(StateGraph.add_node).parameters:
        pytest.skip(f"langgraph {version('langgraph')} has no error handlers")

    def fails(state: State) -> dict[str, list[str]]:
        ask(model, "worker")
        raise LookupError("no luck")

    def handles(state: State) -> dict[str, list[str]]:
        return {"notes": [ask(model, "worker")]}

    builder = StateGraph(State)
    builder.add_node(
        "one", fails, metadata=budget("worker", max_tokens=9_000), error_handler=handles
    )
    builder.add_edge(START, "one")
    manager = BudgetManager()
    govern_graph(builder, manager).invoke({"notes": []})
    assert len(server.log) == 2
    assert consumed(manager) == by_system(server)


def test_an_annotation_holds_for_all_below_its_node(server: FakeOpenAI) -> None:
    """Subgraphs as nodes, subgraphs that a function invokes, and agents, three levels down."""
    model = chat(server)
    agent = create_agent(model, [], system_prompt="team")
    deep = one_node("deep", asks(model, "team"))
    middle = StateGraph(State)
    middle.add_node("as a node", deep)
    middle.add_node("invoked", lambda state: {"notes": deep.invoke({"notes": []})["notes"]})
    middle.add_node("agent", lambda state: {"notes": [str(agent.invoke(ASK))]})
    middle.add_edge(START, "as a node")
    middle.add_edge("as a node", "invoked")
    middle.add_edge("invoked", "agent")
    manager = BudgetManager()
    run(one_node("outer", middle.compile(), metadata=budget("team", max_tokens=90_000)), manager)
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


@pytest.mark.parametrize("annotated", [True, False])
def test_sent_workers_belong_to_their_node(server: FakeOpenAI, annotated: bool) -> None:
    """A fan-out is one agent, by annotation or by the node's name."""
    model = chat(server)
    builder = StateGraph(State)
    builder.add_node("plan", asks(model, "plan"))
    more: Any = {"metadata": budget(max_tokens=90_000)} if annotated else {}
    builder.add_node("worker", asks(model, "worker"), **more)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("worker", state) for _ in range(5)], ["worker"]
    )
    manager = manager_for("plan") if annotated else manager_for("plan", "worker")
    run(builder.compile(), manager)
    assert len(server.log) == 6
    assert consumed(manager) == by_system(server)


def test_tasks_of_the_functional_api_are_found_by_name(server: FakeOpenAI) -> None:
    """A call in a task is the task's, one in the entry point itself the entry point's."""
    model = chat(server)

    @task
    def research(topic: str) -> str:
        return ask(model, "research")

    @task
    def nobody(topic: str) -> str:
        return ask(model, "flow")  # has no contract: the entry point around it has

    @entrypoint()
    def flow(topic: str) -> str:
        ask(model, "flow")
        return research(topic).result() + nobody(topic).result()

    manager = manager_for("research", "flow")
    run(flow, manager, "trees")
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


def test_the_current_agent_counts_before_the_path(server: FakeOpenAI) -> None:
    """`acting_as` inside a node is nearer than the node's name, but not than an annotation."""
    model = chat(server)
    manager = manager_for("one", "actor")

    def node(state: State) -> dict[str, list[str]]:
        with manager.acting_as("actor"):
            return {"notes": [ask(model, "actor")]}

    run(one_node("one", node), manager)
    assert consumed(manager) == by_system(server)
    server.clear()
    annotated = manager_for("actor", "annotated")

    def other(state: State) -> dict[str, list[str]]:
        with annotated.acting_as("actor"):
            return {"notes": [ask(model, "annotated")]}

    run(one_node("one", other, metadata=budget("annotated")), annotated)
    assert consumed(annotated) == by_system(server)


def test_a_prebuilt_tool_node_belongs_to_its_annotation(server: FakeOpenAI) -> None:
    """A node that somebody else wrote needs no wrapping."""

    @tool
    def look_up(what: str) -> str:
        """Look something up with a model."""
        return ask(chat(server), "librarian")

    call = {"name": "look_up", "args": {"what": "x"}, "id": "1", "type": "tool_call"}
    node = ToolNode([look_up])
    graph = one_node(
        "tools", node, state=MessagesState, metadata=budget("librarian", max_tokens=9_000)
    )
    manager = BudgetManager()
    run(graph, manager, {"messages": [AIMessage("", tool_calls=[call])]})
    assert consumed(manager) == by_system(server)
