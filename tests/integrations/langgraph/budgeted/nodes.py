"""Nodes to put `budgeted` around, and a graph of one of them."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


def alone(node: Any, **arguments: Any) -> StateGraph[State, None, State, State]:
    """Return a graph of one node, called "n"."""
    builder = StateGraph(State)
    builder.add_node("n", node, **arguments)
    builder.add_edge(START, "n")
    return builder
