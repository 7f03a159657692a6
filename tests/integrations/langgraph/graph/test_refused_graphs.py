"""Graphs, annotations and arguments that cannot be governed: each is told why."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel.remote import RemoteGraph
from tests.integrations.langgraph.graph.conftest import asks, chat, two_nodes

from tbcontracts import BudgetManager, ContractConflictError
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph


def test_annotations_are_checked_where_they_are_written() -> None:
    """A wrong number fails at `budget(...)`, not in the middle of a run."""
    with pytest.raises(ValueError, match="priority"):
        budget("a", priority=0, max_tokens=10)
    with pytest.raises(TypeError):
        budget("a", max_token=10)
    with pytest.raises(ValueError, match="no max_tokens"):
        budget("a", priority=3)
    assert budget("a") == {"tbcontracts": {"agent": "a"}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 5, "priority": "x"}, "priority of this node must be a whole number"),
        ({"max_tokens": 5, "min_reserve": 9}, "min_reserve of this node must be at most"),
        ({"max_token": 5}, r"no field 'max_token'.* Did you mean 'max_tokens'\?"),
        ({"agent_name": "a"}, r"comes first: budget\('a', \.\.\.\)"),
        ({"priority": 3}, r"^budget\(\.\.\.\) has priority but no max_tokens"),
    ],
)
def test_a_wrong_annotation_is_told_of_its_node(fields: dict[str, Any], said: str) -> None:
    """Nobody knows the node's name yet, so none is made up; a misspelt field finds the nearest."""
    with pytest.raises((TypeError, ValueError), match=said):
        budget(**fields)


def test_an_annotation_for_an_empty_name_is_refused() -> None:
    """It is no annotation without a name."""
    with pytest.raises(ValueError, match="must not be empty"):
        budget("")


def test_conflicting_annotations_are_refused(server: FakeOpenAI) -> None:
    """One agent with two different contracts in one graph is a mistake that is told at set-up."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    builder.add_node("again", asks(chat(server), "x"), metadata=budget("writer", max_tokens=1))
    with pytest.raises(ContractConflictError, match="'writer'"):
        govern_graph(builder, BudgetManager())


@pytest.mark.parametrize("graph", [None, 7, "graph"])
def test_what_is_no_graph_is_refused(graph: Any) -> None:
    """Wrong arguments are named."""
    with pytest.raises(ConfigurationError, match="needs a StateGraph or a compiled graph"):
        govern_graph(graph, BudgetManager())


def test_wrong_arguments_are_told(server: FakeOpenAI) -> None:
    """A manager that is none, or compile arguments for a compiled graph."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    with pytest.raises(ConfigurationError, match="needs a BudgetManager"):
        govern_graph(builder, 7)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="compiled already; checkpointer"):
        govern_graph(builder.compile(), BudgetManager(), checkpointer=InMemorySaver())
    with pytest.raises(TypeError, match="scope_by"):
        govern_graph(builder, BudgetManager(), scope_by="tenant")


def test_a_graph_on_another_machine_cannot_be_governed(server: FakeOpenAI) -> None:
    """A remote graph's calls are made elsewhere: said as the whole graph, warned of as a node."""
    remote = RemoteGraph("agent", url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="govern_graph where it is served"):
        govern_graph(remote, BudgetManager())
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    builder.add_node("far", remote)
    builder.add_edge("write", "far")
    with pytest.warns(UserWarning, match="'far' runs on another machine"):
        govern_graph(builder, BudgetManager())
