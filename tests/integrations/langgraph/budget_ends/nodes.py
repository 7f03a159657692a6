"""Nodes and graphs that run out of budget."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph

from tbcontracts_langgraph import budget, budgeted

WAYS = ("annotated", "budgeted")
THREAD: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


def asks(world: Any, name: str, calls: int = 1) -> Any:
    """Return a node that makes so many calls with a cap of 100 each."""
    model = world.chat(max_completion_tokens=100)

    def node(state: State) -> dict[str, list[str]]:
        said = [model.invoke([("system", name), ("user", "go")]) for _ in range(calls)]
        return {"notes": [f"{name} {len(said)}"]}

    return node


def builder_of(
    world: Any, way: str, node: Any, *, closing: Any = None, **contract: Any
) -> StateGraph[State, None, State, State]:
    """Return "work" before "next", under a contract in one of the two ways."""
    builder = StateGraph(State)
    if way == "annotated":
        builder.add_node("work", node, metadata=budget("worker", **contract))
    else:
        wrapper = budgeted(world.manager, "worker", closing=closing, **contract)
        builder.add_node("work", wrapper(node))
    builder.add_node("next", lambda state: {"notes": ["next"]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "next")
    builder.add_edge("next", END)
    return builder


def looks(world: Any) -> Any:
    """Return an agent with one tool."""

    @tool
    def look() -> str:
        """Look."""
        return "something"

    return create_agent(world.chat(max_completion_tokens=100), [look])
