"""Whose a call of a team is: supervised agents, swarms, agents in tools."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command
from tests.integrations.langchain.attribution.conftest import (
    ASK,
    State,
    by_system,
    chat,
    consumed,
    manager_for,
    one_node,
    run,
    supervised,
)

from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langgraph import budget


def _keeps_a_graphs_own_metadata() -> bool:
    """Return whether LangGraph hands down what a graph was given with `with_config`."""
    seen: list[Any] = []
    inner = StateGraph(State)
    inner.add_node("n", RunnableLambda(lambda state, config: seen.append(config["metadata"])))
    inner.add_edge(START, "n")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile().with_config(metadata={"mine": True}))
    outer.add_edge(START, "inner")
    outer.compile().invoke({"notes": []})
    return "mine" in seen[0]


def test_supervised_agents_are_found_by_their_names(server: FakeOpenAI) -> None:
    """In a middle segment of the path, as the agent's own name, or one level up."""
    manager = manager_for("supervisor", "alpha", "inner_sup", "beta")
    run(supervised(server), manager, ASK)
    assert len(server.log) == 4
    assert consumed(manager) == by_system(server)


def test_a_team_pays_where_its_members_have_no_contract(server: FakeOpenAI) -> None:
    """The innermost name that has a contract is the one that is charged."""
    manager = manager_for("supervisor", "alpha", "team")
    run(supervised(server), manager, ASK)
    billed = by_system(server)
    assert consumed(manager) == {
        "supervisor": billed["supervisor"],
        "alpha": billed["alpha"],
        "team": billed["inner_sup"] + billed["beta"],
    }


def test_agents_that_hand_over_like_a_swarm_keep_their_names() -> None:
    """Peers that hand over with a command are nodes of one graph."""

    def script(request: ScriptedRequest) -> Answer | str:
        if request.tools and "tool" not in [role for role, _ in request.messages]:
            return Answer(tool_calls=[ToolCall(name="to_bob", arguments={})])
        return "Done."

    with FakeOpenAI(script) as server:

        @tool
        def to_bob() -> Command[Any]:
            """Hand over to Bob."""
            message = {"role": "tool", "content": "over to you", "tool_call_id": "call_0_0"}
            return Command(goto="bob", graph=Command.PARENT, update={"messages": [message]})

        model = chat(server)
        alice = create_agent(model, [to_bob], system_prompt="alice", name="alice")
        bob = create_agent(model, [], system_prompt="bob", name="bob")
        builder = StateGraph(MessagesState)
        builder.add_node("alice", alice, destinations=("bob",))
        builder.add_node("bob", bob)
        builder.add_edge(START, "alice")
        manager = manager_for("alice", "bob")
        run(builder.compile(), manager, ASK)
        assert len(server.log) == 2
        assert consumed(manager) == by_system(server)


@pytest.mark.skipif(
    not _keeps_a_graphs_own_metadata(),
    reason=f"langgraph {version('langgraph')} drops the metadata of a graph in a graph",
)
def test_an_agent_that_a_library_adds_is_annotated_with_its_config(server: FakeOpenAI) -> None:
    """`agent.with_config(metadata=budget(...))` stays with the agent, whoever adds it."""
    agent = create_agent(chat(server), [], system_prompt="ALPHA", name="alpha")
    annotated = agent.with_config(metadata=budget("ALPHA", max_tokens=9_000))
    builder = StateGraph(MessagesState)
    builder.add_node("somewhere", annotated)
    builder.add_edge(START, "somewhere")
    manager = manager_for("somewhere")
    run(builder.compile(), manager, ASK)
    assert consumed(manager) == by_system(server)


def test_an_agent_inside_a_tool_is_found_by_its_own_name() -> None:
    """Its name is in no path: the nodes there are called tools and model."""

    def script(request: ScriptedRequest) -> Answer | str:
        if request.tools and "tool" not in [role for role, _ in request.messages]:
            return Answer(tool_calls=[ToolCall(name="delegate", arguments={})])
        return "Done."

    with FakeOpenAI(script) as server:
        model = chat(server)
        researcher = create_agent(model, [], system_prompt="researcher", name="researcher")

        @tool
        def delegate() -> str:
            """Delegate to a researcher."""
            return str(researcher.invoke(ASK)["messages"][-1].content)

        boss = create_agent(model, [delegate], system_prompt="boss", name="boss")
        graph = one_node("deep", boss, state=MessagesState, metadata=budget("boss"))
        manager = manager_for("boss", "researcher")
        run(graph, manager, ASK)
        assert len(server.log) == 3
        assert consumed(manager) == by_system(server)
        server.clear()
        alone = manager_for("boss")
        run(graph, alone, ASK)
        assert consumed(alone) == {"boss": server.billed_tokens}
