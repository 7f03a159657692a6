"""Graphs whose calls are told apart by their system prompts, in the log and on the books."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import budget_callbacks


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with a short text."""
    with FakeOpenAI(lambda request: "A short answer to that.") as running:
        yield running


def chat(server: FakeOpenAI) -> ChatOpenAI:
    """Return a real client for the local provider."""
    key = SecretStr("test")
    return ChatOpenAI(base_url=server.base_url, api_key=key, model="gpt-4o-mini", max_retries=0)


def ask(model: ChatOpenAI, system: str) -> str:
    """Ask with a system prompt by which the log tells who asked."""
    return str(model.invoke([("system", system), ("user", "Do your part.")]).content)


def asks(model: ChatOpenAI, system: str) -> Any:
    """Return a node that asks."""

    def node(state: State) -> dict[str, list[str]]:
        return {"notes": [ask(model, system)]}

    return node


def one_node(name: str, action: Any, *, state: Any = State, **more: Any) -> Any:
    """Return a compiled graph of one node."""
    builder = StateGraph(state)
    builder.add_node(name, action, **more)
    builder.add_edge(START, name)
    return builder.compile()


def manager_for(*names: str) -> BudgetManager:
    """Return a manager with contracts of these names."""
    manager = BudgetManager()
    for name in names:
        manager.register_agent(name, max_tokens=100_000)
    return manager


def consumed(manager: BudgetManager) -> dict[str, int]:
    """Return what the books say that each agent used."""
    return {
        name: account.consumed for name, account in manager.accounts().items() if account.consumed
    }


def by_system(server: FakeOpenAI) -> Mapping[Any, int]:
    """Return what the provider bills for each system prompt."""
    return server.billed_by(lambda request: request.system_text)


def run(graph: Any, manager: BudgetManager, given: Any = None, **handler: Any) -> Any:
    """Run a graph with the callbacks alone, as a user would who did not wrap it."""
    config = {"callbacks": budget_callbacks(manager, **handler)}
    return graph.invoke({"notes": []} if given is None else given, config)


ASK: Any = {"messages": [HumanMessage("go")]}


def supervised(server: FakeOpenAI) -> Any:
    """Return a graph in the shape that `create_supervisor` builds, with a team inside."""
    model = chat(server)
    alpha = create_agent(model, [], system_prompt="alpha", name="alpha")
    beta = create_agent(model, [], system_prompt="beta", name="beta")

    def agent(system: str) -> Any:
        return one_node(
            "agent",
            lambda state: {"messages": [AIMessage(ask(model, system))]},
            state=MessagesState,
        )

    team = StateGraph(MessagesState)
    team.add_node("inner_sup", agent("inner_sup"))
    team.add_node("beta", beta)
    team.add_edge(START, "inner_sup")
    team.add_edge("inner_sup", "beta")
    builder = StateGraph(MessagesState)
    builder.add_node("supervisor", agent("supervisor"))
    builder.add_node("alpha", alpha)
    builder.add_node("team", team.compile(name="team"))
    builder.add_edge(START, "supervisor")
    builder.add_edge("supervisor", "alpha")
    builder.add_edge("alpha", "team")
    builder.add_edge("team", END)
    return builder.compile(name="supervisor")
