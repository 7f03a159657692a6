"""A travel agency: three people who pass a customer on to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langgraph_swarm import create_handoff_tool, create_swarm

from tbcontracts_langgraph import govern_graph


def book_flight(city: str) -> str:
    """Book a flight to a city."""
    return f"Seat 12A to {city} is booked."


def book_room(city: str) -> str:
    """Book a room in a city."""
    return f"A room in {city} is booked."


def build(
    model: Any, checkpointer: Any = None, *, model_of: Callable[[str], Any] | None = None
) -> Any:
    """Return the agency, as the swarm's own guide makes one; each may have a model of its own."""
    of = model_of or (lambda _: model)
    to_flights = create_handoff_tool(agent_name="flights")
    to_rooms = create_handoff_tool(agent_name="rooms")
    desk = create_agent(
        of("desk"), [to_flights], system_prompt="You greet travellers.", name="desk"
    )
    flights = create_agent(
        of("flights"), [book_flight, to_rooms], system_prompt="You book flights.", name="flights"
    )
    rooms = create_agent(of("rooms"), [book_room], system_prompt="You book rooms.", name="rooms")
    swarm = create_swarm([desk, flights, rooms], default_active_agent="desk")
    return swarm.compile(checkpointer=checkpointer)


def governed(model: Any, contracts: Any, checkpointer: Any = None) -> Any:
    """Return the same agency under contracts."""
    return govern_graph(build(model, checkpointer), contracts)
