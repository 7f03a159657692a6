"""Applications of CrewAI, as its command makes them and as people write them."""

from __future__ import annotations

import pytest
from tests.apps import harness
from tests.apps.crew_cases import CREWS, FLOW
from tests.apps.crews import CrewCase

each = pytest.mark.parametrize("crew", CREWS, ids=lambda crew: crew.name)


@each
def test_contracts_change_nothing_and_the_books_are_the_log(crew: CrewCase) -> None:
    """The same prompts and outputs; each agent's tokens as the provider bills them."""
    harness.changes_nothing(crew)


@each
def test_it_stops_at_40_percent(crew: CrewCase) -> None:
    """It is refused, and what follows the first refusal is known to the request."""
    harness.stops(crew)


@each
def test_one_rich_agent_among_poor_ones(crew: CrewCase) -> None:
    """Who has budget works; nobody is paid for from above."""
    harness.starves(crew)


@each
@pytest.mark.parametrize("door", CrewCase.doors)
def test_the_books_are_the_same_through_every_door(crew: CrewCase, door: str) -> None:
    """Started on a thread, or awaited."""
    harness.same_through(crew, door)


@pytest.mark.parametrize(
    "crew", [crew for crew in CREWS if crew is not FLOW], ids=lambda crew: crew.name
)
def test_its_agents_are_listed_before_it_runs(crew: CrewCase) -> None:
    """All of them, the manager that CrewAI makes too; those of a Flow are made in its steps."""
    harness.is_listed(crew)
