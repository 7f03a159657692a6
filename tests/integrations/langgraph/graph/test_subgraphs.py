"""Subgraphs of governed graphs: governed too, and the graph that was given stays as it was."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from tests.integrations.langgraph.graph.conftest import State, asks, chat

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


def nested(server: FakeOpenAI) -> StateGraph[State, None, State, State]:
    """Return a graph whose subgraph holds a node that ends and one that falls back."""
    model = chat(server)
    inner = StateGraph(State)
    ends = budget("ends", max_tokens=1, on_exceeded="end")
    falls = budget("falls", max_tokens=1, on_exceeded={"fallback": "cheap"})
    inner.add_node("ends", asks(model, "ends"), metadata=ends)
    inner.add_node("falls", asks(model, "falls"), metadata=falls)
    inner.add_node("never", lambda state: {"notes": ["never"]})
    inner.add_node("cheap", lambda state: {"notes": ["cheap"]})
    inner.add_edge(START, "ends")
    inner.add_edge("ends", "falls")
    inner.add_edge("falls", "never")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile())
    outer.add_node("next", lambda state: {"notes": ["next"]})
    outer.add_edge(START, "team")
    outer.add_edge("team", "next")
    return outer


def test_nodes_of_subgraphs_do_what_their_annotations_say(server: FakeOpenAI) -> None:
    """The end of a budget is handled where it is, and subgraphs are still found."""
    app = govern_graph(nested(server), BudgetManager(), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    assert app.invoke({"notes": []}, config)["notes"] == ["cheap", "next"]
    assert server.log == ()
    ((name, team),) = app.get_subgraphs()
    assert name == "team"
    drawn = {(edge.source, edge.target) for edge in team.get_graph().edges}
    assert ("falls", "never") in drawn


def test_the_graph_that_was_given_knows_nothing_of_the_end(server: FakeOpenAI) -> None:
    """Its nodes, subgraphs and edges are as they were: without our handler all calls go out."""
    builder = nested(server)
    compiled = builder.compile()
    bound = {name: node.bound for name, node in compiled.nodes.items()}
    govern_graph(compiled, BudgetManager())
    assert {name: node.bound for name, node in compiled.nodes.items()} == bound
    notes = compiled.invoke({"notes": []})["notes"]
    assert (len(notes), notes[-2:]) == (4, ["never", "next"])
    assert len(server.log) == 2


def test_a_subgraph_on_the_way_is_governed_too(server: FakeOpenAI) -> None:
    """Annotated with `with_config` by somebody else than who adds the node."""
    model = chat(server)
    inner = StateGraph(State)
    inner.add_node("deep", asks(model, "deep"))
    inner.add_edge(START, "deep")
    annotated = inner.compile().with_config(
        metadata=budget("team", max_tokens=1, on_exceeded="end")
    )
    outer = StateGraph(State)
    outer.add_node("somewhere", annotated)
    outer.add_node("next", lambda state: {"notes": ["next"]})
    outer.add_edge(START, "somewhere")
    outer.add_edge("somewhere", "next")
    manager = BudgetManager()
    app = govern_graph(outer, manager)
    assert app.invoke({"notes": ["given"]})["notes"] == ["given", "next"]
    assert manager.accounts()["team"].denials == 1
