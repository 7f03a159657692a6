"""Whose a call is, in every shape that LangGraph gives agents; the log tells by system prompt."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Send
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetCallbackHandler, budget_callbacks
from tbcontracts_langchain.attribution import AgentPaths, agent_in_path
from tbcontracts_langgraph import budget, govern_graph


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


ASK: Any = {"messages": [HumanMessage("go")]}


def test_conditional_edges_belong_to_the_node_they_leave(server: FakeOpenAI) -> None:
    """A model that decides where to go is charged to the node before it."""
    model = chat(server)

    def route(state: State) -> str:
        ask(model, "first")
        return "second"

    builder = StateGraph(State)
    builder.add_node("one", asks(model, "first"), metadata=budget("first", max_tokens=9_000))
    builder.add_node("second", asks(model, "second"), metadata=budget(max_tokens=9_000))
    builder.add_edge(START, "one")
    builder.add_conditional_edges("one", route, ["second"])
    manager = BudgetManager()
    govern_graph(builder, manager).invoke({"notes": []})
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


def test_error_handlers_belong_to_the_node_that_failed(server: FakeOpenAI) -> None:
    """What a node's error handler asks is on the node's account."""
    model = chat(server)
    if "error_handler" not in inspect.signature(StateGraph.add_node).parameters:
        pytest.skip(f"langgraph {version('langgraph')} has no error handlers")

    def fails(state: State) -> dict[str, list[str]]:
        ask(model, "worker")
        raise LookupError("no luck")

    def handles(state: State) -> dict[str, list[str]]:
        return {"notes": [ask(model, "worker")]}

    builder = StateGraph(State)
    builder.add_node(
        "one", fails, metadata=budget("worker", max_tokens=9_000), error_handler=handles
    )
    builder.add_edge(START, "one")
    manager = BudgetManager()
    govern_graph(builder, manager).invoke({"notes": []})
    assert len(server.log) == 2
    assert consumed(manager) == by_system(server)


def test_an_annotation_holds_for_all_below_its_node(server: FakeOpenAI) -> None:
    """Subgraphs as nodes, subgraphs that a function invokes, and agents, three levels down."""
    model = chat(server)
    agent = create_agent(model, [], system_prompt="team")
    deep = one_node("deep", asks(model, "team"))
    middle = StateGraph(State)
    middle.add_node("as a node", deep)
    middle.add_node("invoked", lambda state: {"notes": deep.invoke({"notes": []})["notes"]})
    middle.add_node("agent", lambda state: {"notes": [str(agent.invoke(ASK))]})
    middle.add_edge(START, "as a node")
    middle.add_edge("as a node", "invoked")
    middle.add_edge("invoked", "agent")
    manager = BudgetManager()
    run(one_node("outer", middle.compile(), metadata=budget("team", max_tokens=90_000)), manager)
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


@pytest.mark.parametrize("annotated", [True, False])
def test_sent_workers_belong_to_their_node(server: FakeOpenAI, annotated: bool) -> None:
    """A fan-out is one agent, by annotation or by the node's name."""
    model = chat(server)
    builder = StateGraph(State)
    builder.add_node("plan", asks(model, "plan"))
    more: Any = {"metadata": budget(max_tokens=90_000)} if annotated else {}
    builder.add_node("worker", asks(model, "worker"), **more)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("worker", state) for _ in range(5)], ["worker"]
    )
    manager = manager_for("plan") if annotated else manager_for("plan", "worker")
    run(builder.compile(), manager)
    assert len(server.log) == 6
    assert consumed(manager) == by_system(server)


def test_tasks_of_the_functional_api_are_found_by_name(server: FakeOpenAI) -> None:
    """A call in a task is the task's, one in the entry point itself the entry point's."""
    model = chat(server)

    @task
    def research(topic: str) -> str:
        return ask(model, "research")

    @task
    def nobody(topic: str) -> str:
        return ask(model, "flow")  # has no contract: the entry point around it has

    @entrypoint()
    def flow(topic: str) -> str:
        ask(model, "flow")
        return research(topic).result() + nobody(topic).result()

    manager = manager_for("research", "flow")
    run(flow, manager, "trees")
    assert len(server.log) == 3
    assert consumed(manager) == by_system(server)


def test_the_current_agent_counts_before_the_path(server: FakeOpenAI) -> None:
    """`acting_as` inside a node is nearer than the node's name, but not than an annotation."""
    model = chat(server)
    manager = manager_for("one", "actor")

    def node(state: State) -> dict[str, list[str]]:
        with manager.acting_as("actor"):
            return {"notes": [ask(model, "actor")]}

    run(one_node("one", node), manager)
    assert consumed(manager) == by_system(server)
    server.clear()
    annotated = manager_for("actor", "annotated")

    def other(state: State) -> dict[str, list[str]]:
        with annotated.acting_as("actor"):
            return {"notes": [ask(model, "annotated")]}

    run(one_node("one", other, metadata=budget("annotated")), annotated)
    assert consumed(annotated) == by_system(server)


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


def test_a_prebuilt_tool_node_belongs_to_its_annotation(server: FakeOpenAI) -> None:
    """A node that somebody else wrote needs no wrapping."""

    @tool
    def look_up(what: str) -> str:
        """Look something up with a model."""
        return ask(chat(server), "librarian")

    call = {"name": "look_up", "args": {"what": "x"}, "id": "1", "type": "tool_call"}
    node = ToolNode([look_up])
    graph = one_node(
        "tools", node, state=MessagesState, metadata=budget("librarian", max_tokens=9_000)
    )
    manager = BudgetManager()
    run(graph, manager, {"messages": [AIMessage("", tool_calls=[call])]})
    assert consumed(manager) == by_system(server)


# --- a mapping of paths ---------------------------------------------------------------------------


def test_paths_can_be_assigned_to_agents(server: FakeOpenAI) -> None:
    """What is said of a node holds for all below it, before names and annotations."""
    manager = manager_for("lead", "crew", "alpha", "beta")
    agents = {"supervisor": "lead", "team/*": "crew", "alpha": "lead"}
    run(supervised(server), manager, ASK, agents=agents)
    billed = by_system(server)
    assert consumed(manager) == {
        "lead": billed["supervisor"] + billed["alpha"],
        "crew": billed["inner_sup"] + billed["beta"],
    }


def test_an_assigned_agent_without_a_contract_is_warned_of(server: FakeOpenAI) -> None:
    """A slip in the mapping is told, with the nearest name; the call is tracked on its own line."""
    manager = manager_for("researcher")
    graph = one_node("one", asks(chat(server), "x"))
    with pytest.warns(UserWarning, match="nearest contract is 'researcher'"):
        run(graph, manager, agents={"one": "reseacher"})
    assert manager.accounts()["reseacher"].consumed == server.billed_tokens


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        ("research", "exact"),
        ("research/model", "below"),
        ("research/deep/model", "below"),
        ("team/research", "pattern"),
        ("team/write/model", "team"),
        ("writer2/model", "writer"),
        ("other", None),
        ("", None),
    ],
)
def test_which_pattern_counts(path: str, agent: str | None) -> None:
    """The longest path that is found, as it stands before patterns, patterns in their order."""
    paths = AgentPaths(
        {
            "research": "exact",
            "research/*": "below",
            "*/research": "pattern",
            "team": "team",
            "writer?": "writer",
            "writer2": "writer",
        }
    )
    assert paths.agent_of(tuple(filter(None, path.split("/")))) == agent


@pytest.mark.parametrize("agents", [["a"], "a", {"a": 1}, {1: "a"}, {"a": ""}, {"": "a"}])
def test_wrong_mappings_are_told(agents: Any) -> None:
    """At set-up, with what is wrong."""
    with pytest.raises(TypeError, match="agents"):
        BudgetCallbackHandler(BudgetManager(), agents=agents)


def test_handlers_with_other_mappings_are_others() -> None:
    """LangChain tells only one of two equal handlers; the order of patterns matters."""
    manager = BudgetManager()
    one = BudgetCallbackHandler(manager, agents={"a": "x", "*": "y"})
    assert one == BudgetCallbackHandler(manager, agents={"a": "x", "*": "y"})
    assert one != BudgetCallbackHandler(manager, agents={"*": "y", "a": "x"})
    assert one != BudgetCallbackHandler(manager)


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        (("research_1",), "research_1"),
        (("team", "research_1", "model"), "research_1"),
        (("research_team", "research_1"), "research_1"),
        (("team", "special"), "special"),
        (("writer", "research_1"), "writer"),
        (("other", "deeper", "model"), "other"),
        (("eu", "x"), "eu/x"),
        ((), None),
    ],
)
@pytest.mark.parametrize("seen", [False, True])
def test_names_in_a_path_come_before_patterns(
    path: tuple[str, ...], agent: str | None, seen: bool
) -> None:
    """Then the most specific pattern; `*` is the outermost node, whoever was seen before."""
    manager = manager_for("writer")
    manager.register_agent("special", max_tokens=1)
    manager.register_pattern("*", max_tokens=10)
    manager.register_pattern("research_*", max_tokens=10)
    manager.register_pattern("eu/*", max_tokens=10)
    if seen:
        for name in ("model", "deeper", "team", "research_team"):
            manager.record_usage(name, 1)
    assert agent_in_path(path, manager) == agent


def test_patterns_are_found_in_the_order_of_names(server: FakeOpenAI) -> None:
    """Annotation, current agent, path: each may be found by pattern."""
    model = chat(server)
    manager = manager_for("writer")
    manager.register_pattern("p_*", max_tokens=10_000)

    def acts(state: State) -> dict[str, list[str]]:
        with manager.acting_as("p_acting"):
            return {"notes": [ask(model, "p_acting")]}

    builder = StateGraph(State)
    builder.add_node("writer", asks(model, "p_annotated"), metadata=budget("p_annotated"))
    builder.add_node("p_path", asks(model, "p_path"))
    builder.add_node("acts", acts)
    builder.add_node("nobody", asks(model, "nobody"))
    for one, other in zip(
        (START, "writer", "p_path", "acts"), ("writer", "p_path", "acts", "nobody"), strict=True
    ):
        builder.add_edge(one, other)
    with pytest.warns(UserWarning, match="'nobody' has no contract"):
        run(builder.compile(), manager)
    assert consumed(manager) == by_system(server)
    assert manager.accounts()["nobody"].contract is None
