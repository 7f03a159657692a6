"""A provider, nodes that ask it, and graphs of them; the log is the truth."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import budget


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with a short text."""
    with FakeOpenAI(lambda request: "A short answer to that.") as running:
        yield running


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        **settings,
    )


def asks(model: ChatOpenAI, system: str) -> Any:
    """Return a node with a system prompt of its own, by which the log tells agents apart."""

    def node(state: State) -> dict[str, list[str]]:
        answer = model.invoke([("system", system), ("user", "Do your part.")])
        return {"notes": [str(answer.content)]}

    return node


def by_system(server: FakeOpenAI) -> dict[Any, int]:
    """Return what the provider bills for each system prompt."""
    return server.billed_by(lambda request: request.system_text)


def consumed(manager: BudgetManager) -> dict[str, int]:
    """Return what the books say that each agent used."""
    return {
        name: account.consumed for name, account in manager.accounts().items() if account.consumed
    }


def two_nodes(server: FakeOpenAI, **research: Any) -> StateGraph[State, None, State, State]:
    """Return a graph of research and writing, annotated."""
    model = chat(server)
    builder = StateGraph(State)
    builder.add_node("research", asks(model, "research"), metadata=budget(**research))
    builder.add_node(
        "write", asks(model, "writer"), metadata=budget("writer", priority=1, max_tokens=9_000)
    )
    builder.add_edge(START, "research")
    builder.add_edge("research", "write")
    builder.add_edge("write", END)
    return builder
