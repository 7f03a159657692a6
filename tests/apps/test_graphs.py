"""Applications that other libraries build of LangGraph: what is promised of each."""

from __future__ import annotations

import pytest
from tests.apps import graphs
from tests.apps.graph_cases import GRAPHS
from tests.apps.graphs import DOORS, Graph

each = pytest.mark.parametrize("case", GRAPHS, ids=lambda case: case.name)
each_that_keeps = pytest.mark.parametrize(
    "case", [case for case in GRAPHS if case.keeps], ids=lambda case: case.name
)


@each
def test_contracts_change_nothing_and_the_books_are_the_log(case: Graph) -> None:
    """The same prompts and outputs; each agent's tokens as the provider bills them."""
    graphs.changes_nothing(case)


@each
def test_it_stops_at_40_percent(case: Graph) -> None:
    """It is refused, and what follows the first refusal is known to the request."""
    graphs.stops(case, graphs.needs(case))


@each
def test_one_rich_agent_among_poor_ones(case: Graph) -> None:
    """Who has budget works; nobody is paid for from above."""
    graphs.starves(case, graphs.needs(case))


@each
@pytest.mark.parametrize("door", DOORS)
def test_the_books_are_the_same_through_every_door(case: Graph, door: str) -> None:
    """Awaited, by events, by messages of all subgraphs."""
    graphs.same_through(case, graphs.needs(case), door)


@each_that_keeps
def test_it_resumes_after_a_top_up(case: Graph) -> None:
    """From its checkpoint it goes on where it was refused, and pays for nothing twice."""
    graphs.resumes(case, graphs.needs(case))
