"""Contracts of governed graphs that come from a file, by name and by pattern."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, StateGraph
from tests.integrations.langgraph.graph.conftest import (
    State,
    asks,
    by_system,
    chat,
    consumed,
    two_nodes,
)

from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langgraph import govern_graph, manager_of

FILE = {
    "scope": "acme",
    "agents": {
        "research": {"priority": 3, "max_tokens": 9_000},
        "writer": {"max_tokens": 1, "on_exceeded": "end"},
    },
}


@pytest.mark.parametrize("form", ["mapping", "path", "text"])
def test_contracts_may_come_from_a_file(server: FakeOpenAI, form: str, tmp_path: Path) -> None:
    """A contract file or a mapping like one makes the manager, and nodes find their contract."""
    file = tmp_path / "budget.json"
    file.write_text(json.dumps(FILE), encoding="utf-8")
    given: Any = {"mapping": FILE, "path": file, "text": str(file)}[form]
    model = chat(server)
    builder = StateGraph(State)
    builder.add_node("research", asks(model, "research"))
    builder.add_node("writer", asks(model, "writer"))
    builder.add_edge(START, "research")
    builder.add_edge("research", "writer")
    app = govern_graph(builder, given)
    assert len(app.invoke({"notes": []})["notes"]) == 1
    manager = manager_of(app)
    assert manager.scope_name == "acme"
    assert consumed(manager) == by_system(server)
    assert manager_of(app.with_config(tags=["x"])) is manager
    with pytest.raises(ConfigurationError, match="is not governed"):
        manager_of(builder.compile())


def test_a_misspelt_contract_in_a_file_is_warned_of(server: FakeOpenAI) -> None:
    """A contract for no node, where a node has nearly that name."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    with pytest.warns(UserWarning, match=r"No agent here is called 'reserch' \(nearest: 're"):
        govern_graph(builder, {"agents": {"reserch": {"max_tokens": 9}}})


def test_patterns_open_every_node_that_matches(server: FakeOpenAI) -> None:
    """Before the first call, in subgraphs too: the nodes that will be asked for, and no others."""
    model = chat(server)
    team = StateGraph(State)
    team.add_node("research_eu", asks(model, "research_eu"))
    team.add_edge(START, "research_eu")
    builder = StateGraph(State)
    builder.add_node("research_us", asks(model, "research_us"))
    builder.add_node("team", team.compile())
    builder.add_node("writer", asks(model, "writer"))
    builder.add_edge(START, "research_us")
    builder.add_edge("research_us", "team")
    builder.add_edge("team", "writer")
    agents = {"research_*": {"max_tokens": 500}, "writer": {"priority": 2, "max_tokens": 10}}
    app = govern_graph(builder, {"unattributed": "deny", "agents": agents})
    manager = manager_of(app)
    assert {n: one["allocated"] for n, one in manager.report().items()} == {
        "research_us": 500,
        "research_eu": 500,
        "writer": 10,
    }
    app.invoke({"notes": []})
    assert consumed(manager) == by_system(server)
    assert manager.accounts()["writer"].allocated > 10  # lent by both


def test_a_pattern_for_everything_means_the_outermost_node() -> None:
    """`*` gives each node one contract, and what an agent does inside it is the node's."""
    with FakeOpenAI() as server:
        agent = create_agent(chat(server), tools=[], system_prompt="research")
        builder = StateGraph(State)
        builder.add_node("research", RunnableLambda(lambda _: {"notes": []}) | agent_node(agent))
        builder.add_node("other", asks(chat(server), "other"))
        builder.add_edge(START, "research")
        builder.add_edge("research", "other")
        app = govern_graph(builder, {"agents": {"*": {"max_tokens": 5_000}}})
        app.invoke({"notes": []})
        assert consumed(manager_of(app)) == by_system(server)
        assert set(by_system(server)) == {"research", "other"}


def agent_node(agent: Any) -> Any:
    """Return a step that runs an agent of LangChain, and gives nothing on."""

    def run(state: State, config: RunnableConfig) -> dict[str, list[str]]:
        agent.invoke({"messages": [HumanMessage("Do your part.")]}, config)
        return {"notes": []}

    return RunnableLambda(run)


def test_the_file_of_a_graph_may_be_named_outside(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`TBCONTRACTS_CONFIG` and the settings beside it, where code names neither."""
    path = tmp_path / "budget.yaml"
    path.write_text("scope: file\nagents: {plain: {max_tokens: 5}}\n", encoding="utf-8")
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    with pytest.raises(ConfigurationError, match="TBCONTRACTS_CONFIG"):
        govern_graph(builder)
    monkeypatch.setenv("TBCONTRACTS_CONFIG", str(path))
    monkeypatch.setenv("TBCONTRACTS_SCOPE", "deployed")
    manager = manager_of(govern_graph(builder))
    assert manager.scope_name == "deployed"
    assert manager.contracts["plain"].max_tokens == 5


def test_a_misspelt_pattern_in_a_file_is_warned_of(server: FakeOpenAI) -> None:
    """A pattern that no node matches, where a node has nearly its literal part for a name."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    with pytest.warns(UserWarning, match=r"No agent here matches 'reserch\*' \(nearest: 'r"):
        govern_graph(builder, {"agents": {"reserch*": {"max_tokens": 9}}})
