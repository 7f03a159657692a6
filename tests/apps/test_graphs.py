"""Applications that other libraries build of LangGraph: what is promised of each."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from tests.apps import harness
from tests.apps.applications import swarm
from tests.apps.graph_cases import GRAPHS, SWARM
from tests.apps.graphs import LOST, Graph, resumes

from tbcontracts_langchain import BudgetedChatModel
from tbcontracts_langgraph import govern_graph

each = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
each_that_keeps = pytest.mark.parametrize(
    "graph", [graph for graph in GRAPHS if graph.keeps], ids=lambda graph: graph.name
)

each_door = pytest.mark.parametrize(
    "door",
    [
        pytest.param(door, marks=pytest.mark.skipif(door in Graph.lost, reason=LOST))
        for door in Graph.doors
    ],
)


@each
def test_contracts_change_nothing_and_the_books_are_the_log(graph: Graph) -> None:
    """The same prompts and outputs; each agent's tokens as the provider bills them."""
    harness.changes_nothing(graph)


@each
def test_it_stops_at_40_percent(graph: Graph) -> None:
    """It is refused, and what follows the first refusal is known to the request."""
    harness.stops(graph)


@each
def test_one_rich_agent_among_poor_ones(graph: Graph) -> None:
    """Who has budget works; nobody is paid for from above."""
    harness.starves(graph)


@each
@each_door
def test_the_books_are_the_same_through_every_door(graph: Graph, door: str) -> None:
    """Awaited, by events, by messages of all subgraphs."""
    harness.same_through(graph, door)


@pytest.mark.skipif(not Graph.lost, reason="Python 3.11 and later hand the callbacks on")
@each
@pytest.mark.parametrize("door", Graph.lost)
def test_a_door_that_loses_callbacks_is_warned_of(graph: Graph, door: str) -> None:
    """Whoever uses it is told; tasks and `interrupt` do not work there, governed or not."""
    with pytest.warns(UserWarning, match=LOST), contextlib.suppress(RuntimeError):
        graph.run(harness.large(graph), door)


def governed_by_models(model: Any, contracts: Any, checkpointer: Any = None) -> Any:
    """Return the swarm under contracts, where each one's model knows whose budget it uses."""

    def of(agent: str) -> BudgetedChatModel:
        return BudgetedChatModel(inner=model, manager=contracts, agent=agent)

    return govern_graph(swarm.build(model, checkpointer, model_of=of), contracts)


@pytest.mark.filterwarnings(f"ignore:{LOST}:UserWarning")
@pytest.mark.parametrize("door", Graph.doors)
def test_models_with_budgets_need_no_callbacks(door: str) -> None:
    """Where a door loses them, the books are the provider's log all the same."""
    harness.same_through(replace(SWARM, governed=governed_by_models), door)


@each
def test_its_agents_are_listed_before_it_runs(graph: Graph) -> None:
    """All of them, in subgraphs, tools and tasks too, each with its contract."""
    harness.is_listed(graph)


@each_that_keeps
def test_it_resumes_after_a_top_up(graph: Graph) -> None:
    """From its checkpoint it goes on where it was refused, and pays for nothing twice."""
    resumes(graph)
