"""Which agents a graph has, the contract of each, by which rule, and what is worth a look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import SecretStr

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import AgentFound, Roster, Unmatched
from tbcontracts_langgraph import agents_of, budget, budgeted, govern_graph

MODEL = ChatOpenAI(api_key=SecretStr("test"), model="gpt-4o-mini")


class State(TypedDict):
    """What the graphs here pass on."""

    notes: str


def asks(state: State) -> State:
    """Ask a model."""
    return {"notes": str(MODEL.invoke(state["notes"]).content)}


def counts(state: State) -> State:
    """Ask nobody."""
    return {"notes": str(len(state["notes"]))}


def graph_of(nodes: dict[str, Any], **annotations: Any) -> Any:
    """Return a graph of nodes that follow one another."""
    builder = StateGraph(State)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node, metadata=annotations.get(name))
        builder.add_edge(before, name)
        before = name
    return builder.compile()


def manager_with(*agents: str) -> BudgetManager:
    """Return a manager with a contract for each of these."""
    manager = BudgetManager()
    for agent in agents:
        manager.register_agent(agent, max_tokens=1_000)
    return manager


def found(roster: Roster) -> dict[str, tuple[str | None, str]]:
    """Return contract and rule of the agent at each place."""
    return {one.where: (one.contract, one.rule) for one in roster.agents}


def test_each_rule_is_named() -> None:
    """By annotation, by the agent's own name, by node, by path, by what pays for all others."""
    helper: Any = create_agent(MODEL, name="helper")
    inner = graph_of({"draft": asks, "polish": asks, "check": helper}, check=budget("editor"))
    app = graph_of({"team": inner, "write": asks, "help": helper}, write=budget("author"))
    manager = manager_with("editor", "author", "helper", "draft", "team/polish")
    assert found(agents_of(app, manager)) == {
        "team/draft": ("draft", "node"),
        "team/polish": ("team/polish", "path"),
        "team/check": ("editor", "annotation"),
        "write": ("author", "annotation"),
        "help": ("helper", "own name"),
    }
    rest = BudgetManager(unattributed=BudgetContract("rest", max_tokens=9))
    assert set(found(agents_of(app, rest)).values()) == {("rest", "for all others")}


def test_patterns_are_told_from_names() -> None:
    """A contract by pattern says so; a pattern that matches nobody is told by its literal part."""
    app = graph_of({"write_a": asks, "write_b": asks})
    agents = {"write_*": {"max_tokens": 9}, "writer_b*": {"max_tokens": 9}}
    roster = agents_of(app, {"agents": {**agents, "write_b": {"max_tokens": 5}}})
    assert found(roster) == {
        "write_a": ("write_a", "node, by pattern"),
        "write_b": ("write_b", "node"),
    }
    assert roster.unmatched == (Unmatched("writer_b*", "write_b"),)
    manager = BudgetManager()
    manager.register_pattern("write_*", max_tokens=9)
    assert agents_of(app, manager).findings == ()
    assert list(manager.contracts) == []


def test_a_contract_of_a_level_above_pays() -> None:
    """A segment further out is found, as in a run."""
    app = graph_of({"team": graph_of({"draft": asks})})
    assert found(agents_of(app, manager_with("team"))) == {"team/draft": ("team", "node")}


def test_agents_of_tools_and_tasks_are_found() -> None:
    """In closures of tools and nodes, and as tasks of an entrypoint."""
    expert: Any = create_agent(MODEL, name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask the expert."""
        return str(expert.invoke({"messages": [("user", question)]}))

    host = create_agent(MODEL, [ask_expert], name="host")
    assert [(one.name, one.where) for one in agents_of(host).agents] == [
        ("host", "host"),
        ("expert", "tools"),
    ]

    def calls(state: State) -> State:
        return {"notes": str(expert.invoke({"messages": [("user", state["notes"])]}))}

    assert [one.name for one in agents_of(graph_of({"calls": calls})).agents] == ["expert"]

    @task
    def look(topic: str) -> str:
        return str(MODEL.invoke(topic).content)

    @entrypoint()
    def office(topic: str) -> str:
        return look(topic).result()

    roster = agents_of(office, manager_with("look"))
    assert found(roster)["office/look"] == ("look", "node")


def test_a_graph_that_calls_itself_ends() -> None:
    """A tool of an agent that calls the agent again."""
    holder: dict[str, Any] = {}

    @tool
    def again(question: str) -> str:
        """Ask again."""
        return str(holder["agent"].invoke({"messages": [("user", question)]}))

    holder["agent"] = create_agent(MODEL, [again], name="loop")
    assert [one.name for one in agents_of(holder["agent"]).agents] == ["loop"]


def test_what_is_worth_a_look_is_told() -> None:
    """Contracts without an agent, agents without a contract, and two agents of one name."""
    writer: Any = create_agent(MODEL, name="writer")
    app = graph_of({"count": counts, "edit": asks, "a": writer, "b": writer})
    roster = agents_of(app, manager_with("edits", "writer"))
    assert roster.unmatched == (Unmatched("edits", "edit"),)
    assert roster.without == ("edit",)
    assert roster.twins == {"writer": ("a", "b")}
    assert roster.findings == (
        "No agent here is called 'edits' (nearest: 'edit'): nobody uses that budget.",
        "No contract for 'edit' (nearest: 'edits'): their calls are tracked without a limit.",
        "2 agents are called 'writer' (a, b): they are one on the books.",
    )
    assert str(roster).splitlines()[:5] == [
        "agent   where  contract           found by",
        "count   count  - (asks no model)",
        "edit    edit   -",
        "writer  a      writer             own name",
        "writer  b      writer             own name",
    ]
    assert str(roster).endswith("\n".join(roster.findings))
    assert json.loads(json.dumps(roster.as_dict()))["twins"] == {"writer": ["a", "b"]}
    assert AgentFound("count", "count", None, "", asks_models=False) in roster.agents


def test_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the manager nor the graph, and no store is made."""
    monkeypatch.chdir(tmp_path)
    app = graph_of({"write": asks}, write=budget(max_tokens=500))
    manager = manager_with("other")
    assert found(agents_of(app, manager)) == {"write": ("write", "annotation")}
    assert set(manager.contracts) == {"other"}
    contracts = {"store": "sqlite:///budget.db", "agents": {"write": {"max_tokens": 500}}}
    assert found(agents_of(app, contracts)) == {"write": ("write", "annotation")}
    assert list(tmp_path.iterdir()) == []


def test_a_governed_graph_knows_its_contracts() -> None:
    """Without contracts given, those of its manager count; `budgeted` names its node's agent."""
    manager = manager_with("author")
    app = govern_graph(graph_of({"write": budgeted(manager, "author")(asks)}), manager)
    assert found(agents_of(app)) == {"write": ("author", "annotation")}
    assert found(agents_of(graph_of({"write": asks}))) == {"write": (None, "")}


@pytest.mark.parametrize("make", [lambda: 7, lambda: StateGraph], ids=["a number", "a class"])
def test_what_is_no_graph_is_refused(make: Callable[[], Any]) -> None:
    """Said with what helps."""
    with pytest.raises(ConfigurationError, match="agents_of takes a graph, not"):
        agents_of(make())


def test_annotations_in_dollars_are_listed_without_a_manager() -> None:
    """The unit is that of the contracts, and nobody needs prices to look."""
    builder = StateGraph(MessagesState)
    builder.add_node("writer", lambda state: state, metadata=budget(max_usd="2.50"))
    builder.add_edge(START, "writer")
    (found,) = agents_of(builder.compile()).agents
    assert (found.name, found.contract) == ("writer", "writer")
