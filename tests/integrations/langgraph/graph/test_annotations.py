"""Annotated nodes of governed graphs: who pays for which call. The log is the truth."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from tests.integrations.langgraph.graph.conftest import (
    State,
    asks,
    by_system,
    chat,
    consumed,
    two_nodes,
)

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ToolCall
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langgraph import budget, govern_graph


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


def test_annotated_nodes_are_charged_what_the_log_says(server: FakeOpenAI) -> None:
    """Each node's calls are on its agent's account; a nameless annotation takes the node's name."""
    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=9_000), manager)
    assert list(manager.contracts) == ["research", "writer"]
    app.invoke({"notes": []})
    assert consumed(manager) == by_system(server)


def test_an_annotation_says_at_which_shares_to_warn(server: FakeOpenAI) -> None:
    """As a contract in a file or in code does."""
    manager = BudgetManager()
    shares = {"max_tokens": 1_000, "min_reserve": 1_000, "warn_at": [0.01, 1.0]}
    app = govern_graph(two_nodes(server, **shares), manager)
    told: list[tuple[str, float]] = []
    manager.on_threshold(lambda passed: told.append((passed.agent, passed.threshold)))
    app.invoke({"notes": []})
    assert manager.flush_listeners(10)
    assert told == [("research", 0.01)]


def test_all_annotated_contracts_are_open_before_the_first_call(server: FakeOpenAI) -> None:
    """A node that runs later is a donor from the start."""
    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=20), manager)
    app.invoke({"notes": []})
    held = next(entry for entry in manager.journal() if entry.kind == "held")
    assert held.agent == "research"
    assert [move.donor for move in held.moves] == ["writer"]


def test_the_graph_that_was_given_stays_as_it_was(server: FakeOpenAI) -> None:
    """Builder and compiled graph can be used without contracts afterwards."""
    builder = two_nodes(server, priority=3, max_tokens=1)
    compiled = builder.compile()
    manager = BudgetManager()
    govern_graph(builder, manager)
    app = govern_graph(compiled, manager)
    compiled.invoke({"notes": []})
    assert len(server.log) == 2
    assert consumed(manager) == {}
    assert type(app) is type(compiled)


def test_an_agent_as_a_node_is_charged_with_its_tools_calls() -> None:
    """Inside an agent the node is called "model" or "tools"; the annotation tells whose it is."""

    def script(request: Any) -> Answer | str:
        if "tool" in [role for role, _ in request.messages] or not request.tools:
            return "Done."
        return Answer(tool_calls=[ToolCall(name="ask_expert", arguments={"question": "why"})])

    with FakeOpenAI(script) as server:
        model = chat(server)

        @tool
        def ask_expert(question: str) -> str:
            """Ask an expert, which is another model call."""
            return str(model.invoke([("system", "expert"), ("user", question)]).content)

        agent = create_agent(model, [ask_expert], system_prompt="agent")
        builder = StateGraph(dict)  # type: ignore[type-var]
        builder.add_node("research", agent, metadata=budget("researcher", max_tokens=9_000))
        builder.add_edge(START, "research")
        manager = BudgetManager()
        govern_graph(builder, manager).invoke({"messages": [HumanMessage("go")]})
        assert len(server.log) == 3
        assert consumed(manager) == {"researcher": server.billed_tokens}


def test_the_inner_annotation_pays(server: FakeOpenAI) -> None:
    """An annotated subgraph node inside an annotated node: the inner one is charged."""
    model = chat(server)
    inner = StateGraph(State)
    inner.add_node("deep", asks(model, "inner"), metadata=budget("inner", max_tokens=9_000))
    inner.add_node("plain", asks(model, "outer"))
    inner.add_edge(START, "deep")
    inner.add_edge("deep", "plain")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile(), metadata=budget("outer", max_tokens=9_000))
    outer.add_edge(START, "team")
    manager = BudgetManager()
    govern_graph(outer, manager).invoke({"notes": []})
    assert consumed(manager) == by_system(server)


@pytest.mark.skipif(
    not _keeps_a_graphs_own_metadata(),
    reason=f"langgraph {version('langgraph')} drops the metadata of a graph in a graph",
)
def test_an_agents_own_name_pays_where_it_has_a_contract(server: FakeOpenAI) -> None:
    """`create_agent(name=...)` without any annotation is found by its name."""
    manager = BudgetManager()
    manager.register_agent("alpha", max_tokens=9_000)
    agent = create_agent(chat(server), [], system_prompt="alpha", name="alpha")
    builder = StateGraph(dict)  # type: ignore[type-var]
    builder.add_node("somewhere", agent, metadata=budget("outer", max_tokens=9_000))
    builder.add_edge(START, "somewhere")
    govern_graph(builder, manager).invoke({"messages": [HumanMessage("go")]})
    assert consumed(manager) == by_system(server)


def test_nodes_without_annotation_are_found_by_their_path(server: FakeOpenAI) -> None:
    """The lone handler charges the node whose name has a contract, the innermost first."""
    model = chat(server)
    inner = StateGraph(State)
    inner.add_node("beta", asks(model, "beta"))
    inner.add_edge(START, "beta")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile())
    outer.add_node("alone", asks(model, "alone"))
    outer.add_edge(START, "team")
    outer.add_edge("team", "alone")
    manager = BudgetManager()
    for name in ("team", "beta", "alone"):
        manager.register_agent(name, max_tokens=9_000)
    outer.compile().invoke({"notes": []}, {"callbacks": budget_callbacks(manager)})
    assert consumed(manager) == by_system(server)


def test_calls_without_a_contract_are_tracked_and_warned_about_once(server: FakeOpenAI) -> None:
    """A name without a contract is on a line of its own, with a warning that names the nearest."""
    builder = StateGraph(State)
    builder.add_node("reserch", asks(chat(server), "reserch"))
    builder.add_edge(START, "reserch")
    manager = BudgetManager()
    manager.register_agent("research", max_tokens=9_000)
    with pytest.warns(UserWarning, match=r"No contract for 'reserch' \(nearest: 'res"):
        app = govern_graph(builder, manager)
    with pytest.warns(UserWarning, match="nearest contract is 'research'"):
        app.invoke({"notes": []})
    app.invoke({"notes": []})
    account = manager.accounts()["reserch"]
    assert account.contract is None
    assert account.consumed == server.billed_tokens
    assert account.overdraft == 0


def test_calls_without_a_contract_can_be_denied(server: FakeOpenAI) -> None:
    """With unattributed="deny" they are not sent."""
    builder = StateGraph(State)
    builder.add_node("reserch", asks(chat(server), "reserch"))
    builder.add_edge(START, "reserch")
    manager = BudgetManager(unattributed="deny")
    manager.register_agent("research", max_tokens=9_000)
    with pytest.warns(UserWarning, match="No contract for 'reserch' .* their calls are refused"):
        app = govern_graph(builder, manager)
    with pytest.raises(BudgetExceededError, match="No contract answers for it") as refused:
        app.invoke({"notes": []})
    assert refused.value.code == "unattributed"
    assert server.log == ()


def test_an_entrypoint_is_governed(server: FakeOpenAI) -> None:
    """The functional API: tasks are found by their names; the entrypoint can end."""
    model = chat(server)

    @task
    def look(topic: str) -> str:
        return str(model.invoke([("system", "look"), ("user", topic)]).content)

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(topic: str) -> str:
        found = look(topic).result()
        return str(model.invoke([("system", "workflow"), ("user", found)]).content)

    manager = BudgetManager()
    manager.register_agent("look", max_tokens=9_000, min_reserve=9_000)
    manager.register_agent("workflow", max_tokens=1, on_exceeded="end")
    app = govern_graph(workflow, manager)
    config: Any = {"configurable": {"thread_id": "t"}}
    assert app.invoke("manholes", config) is None
    assert consumed(manager) == by_system(server)
    manager.top_up("workflow", 5_000)
    assert app.invoke("manholes", config)
    assert consumed(manager) == by_system(server)
