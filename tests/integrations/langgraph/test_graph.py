"""Graphs under contracts: annotations, attribution, fan-out, resumption. The log is the truth."""

from __future__ import annotations

import asyncio
import json
import operator
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import RetryPolicy, Send
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager, ContractConflictError
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import Answer, FakeOpenAI, ToolCall
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph import budget, govern_graph, manager_of


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


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


def test_annotated_nodes_are_charged_what_the_log_says(server: FakeOpenAI) -> None:
    """Each node's calls are on its agent's account; a nameless annotation takes the node's name."""
    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=9_000), manager)
    assert list(manager.contracts) == ["research", "writer"]
    app.invoke({"notes": []})
    assert consumed(manager) == by_system(server)


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


def test_a_refusal_leaves_invoke_as_our_error_and_the_checkpoint_resumes(
    server: FakeOpenAI,
) -> None:
    """Nothing is sent; after a top-up `invoke(None)` goes on there, on the same books."""
    manager = BudgetManager()
    builder = two_nodes(server, priority=1, max_tokens=9_000)
    app = govern_graph(builder, manager, checkpointer=InMemorySaver())
    manager.change_contract("writer", max_tokens=10)
    manager.change_contract("research", max_tokens=200, min_reserve=200)
    config: Any = {"configurable": {"thread_id": "t"}}
    with pytest.raises(BudgetExceededError) as refused:
        app.invoke({"notes": []}, config)
    assert refused.value.agent_name == "writer"
    assert len(server.log) == 1
    assert app.get_state(config).next == ("write",)
    manager.top_up("writer", 5_000)
    app.invoke(None, config)
    assert len(server.log) == 2
    assert consumed(manager) == by_system(server)


def test_retry_policy_does_not_retry_a_refusal(server: FakeOpenAI) -> None:
    """LangGraph's default retry policy retries a plain Exception; ours is tried once."""
    attempts: list[str] = []
    model = chat(server)

    def node(state: State) -> dict[str, list[str]]:
        attempts.append("ours")
        return {"notes": [str(model.invoke("hello").content)]}

    def naive(state: State) -> dict[str, list[str]]:
        attempts.append("naive")
        raise Exception("over budget")  # what a naive library raises

    for function in (node, naive):
        builder = StateGraph(State)
        policy = RetryPolicy(initial_interval=0.001, max_attempts=3)
        builder.add_node("a", function, metadata=budget(max_tokens=1), retry_policy=policy)
        builder.add_edge(START, "a")
        app = govern_graph(builder, BudgetManager())
        with pytest.raises(Exception, match=r"asked for|over budget"):
            app.invoke({"notes": []})
    assert attempts == ["ours", "naive", "naive", "naive"]
    assert server.log == ()


def test_exactly_two_of_forty_sent_workers_reach_the_provider() -> None:
    """A fan-out of 40 on a budget for two: exactly 2 requests, and books equal to the log."""
    release = threading.Event()

    def answer(request: Any) -> Answer:
        return Answer(text="x", input_tokens=1_000, fill=True, hold=release)

    with FakeOpenAI(answer) as server:
        model = chat(server, max_tokens=1_000)
        prompt = "word " * 994
        outcomes: list[str] = []

        def worker(state: State) -> dict[str, list[str]]:
            try:
                model.invoke(prompt)
            except BudgetExceededError:
                outcomes.append("refused")
                if outcomes.count("refused") == 38:
                    release.set()
                return {"notes": ["refused"]}
            return {"notes": ["sent"]}

        builder = StateGraph(State)
        builder.add_node("plan", lambda state: {"notes": []})
        builder.add_node("worker", worker, metadata=budget(max_tokens=5_000))
        builder.add_edge(START, "plan")
        builder.add_conditional_edges(
            "plan", lambda state: [Send("worker", state) for _ in range(40)], ["worker"]
        )
        manager = BudgetManager()
        app = govern_graph(builder, manager)
        result = app.invoke({"notes": []}, {"max_concurrency": 40})
        assert sorted(result["notes"]) == ["refused"] * 38 + ["sent"] * 2
        assert len(server.log) == 2
        assert manager.accounts()["worker"].consumed == server.billed_tokens == 4_000


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


def test_each_thread_has_its_own_books(server: FakeOpenAI) -> None:
    """scope_by="thread_id": conversations do not share a budget; scope_by may be a function."""
    manager = BudgetManager(scope="acme")
    app = govern_graph(
        two_nodes(server, priority=3, max_tokens=9_000),
        manager,
        scope_by="thread_id",
        checkpointer=InMemorySaver(),
    )
    for thread_id in ("t1", "t2"):
        app.invoke({"notes": []}, {"configurable": {"thread_id": thread_id}})
    assert consumed(manager) == {}
    assert consumed(manager.scope("acme/t1")) == consumed(manager.scope("acme/t2"))
    assert sum(consumed(manager.scope("acme/t1")).values()) * 2 == server.billed_tokens
    tenants = govern_graph(
        two_nodes(server, priority=3, max_tokens=9_000),
        manager,
        scope_by=lambda metadata: metadata.get("tenant"),
    )
    tenants.invoke({"notes": []}, {"metadata": {"tenant": "globex"}})
    assert consumed(manager.scope("globex"))


def two_branches(server: FakeOpenAI, *, pass_config: bool) -> StateGraph[State, None, State, State]:
    """Return a graph of two awaited nodes side by side."""
    model = chat(server)
    builder = StateGraph(State)

    def asks_awaited(system: str) -> Any:
        async def node(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            given = config if pass_config else None
            answer = await model.ainvoke([("system", system), ("user", "Do it.")], given)
            return {"notes": [str(answer.content)]}

        return node

    for name in ("left", "right"):
        builder.add_node(name, asks_awaited(name), metadata=budget(max_tokens=9_000))
        builder.add_edge(START, name)
    return builder


@pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")
@pytest.mark.parametrize(
    "pass_config",
    [True, pytest.param(False, marks=pytest.mark.skipif(LOSES_CONTEXT, reason="Python 3.10"))],
)
def test_parallel_and_awaited_nodes_keep_their_agents(
    server: FakeOpenAI, pass_config: bool
) -> None:
    """Parallel branches, run with ainvoke, are told apart; on 3.10 if they pass the config on."""
    manager = BudgetManager()
    app = govern_graph(two_branches(server, pass_config=pass_config), manager)
    asyncio.run(app.ainvoke({"notes": []}))
    assert consumed(manager) == by_system(server)


@pytest.mark.skipif(not LOSES_CONTEXT, reason="Python 3.11 and later hand the context on")
def test_a_lost_context_is_warned_of(server: FakeOpenAI) -> None:
    """On Python 3.10 an awaited node may lose its callbacks; whoever runs one is told."""
    app = govern_graph(two_branches(server, pass_config=True), BudgetManager())
    with pytest.warns(UserWarning, match="takes `config: RunnableConfig` and passes it on"):
        asyncio.run(app.ainvoke({"notes": []}))


def test_streamed_messages_without_usage_are_not_free(server: FakeOpenAI) -> None:
    """`stream_mode="messages"` silently turns usage off for custom URLs: charged by estimate."""
    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=9_000), manager)
    list(app.stream({"notes": []}, stream_mode="messages"))
    accounts = manager.accounts()
    assert all(accounts[name].unmeasured > 0 for name in ("research", "writer"))
    assert all(accounts[name].held == 0 for name in ("research", "writer"))


def test_annotations_are_checked_where_they_are_written() -> None:
    """A wrong number fails at `budget(...)`, not in the middle of a run."""
    with pytest.raises(ValueError, match="priority"):
        budget("a", priority=0, max_tokens=10)
    with pytest.raises(TypeError):
        budget("a", max_token=10)
    with pytest.raises(ValueError, match="no max_tokens"):
        budget("a", priority=3)
    assert budget("a") == {"tbcontracts": {"agent": "a"}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_tokens": 5, "priority": "x"}, "priority of this node must be a whole number"),
        ({"max_tokens": 5, "min_reserve": 9}, "min_reserve of this node must be at most"),
        ({"max_token": 5}, r"no field 'max_token'.* Did you mean 'max_tokens'\?"),
        ({"agent_name": "a"}, r"comes first: budget\('a', \.\.\.\)"),
        ({"priority": 3}, r"^budget\(\.\.\.\) has priority but no max_tokens"),
    ],
)
def test_a_wrong_annotation_is_told_of_its_node(fields: dict[str, Any], said: str) -> None:
    """Nobody knows the node's name yet, so none is made up; a misspelt field finds the nearest."""
    with pytest.raises((TypeError, ValueError), match=said):
        budget(**fields)


def test_an_annotation_for_an_empty_name_is_refused() -> None:
    """It is no annotation without a name."""
    with pytest.raises(ValueError, match="must not be empty"):
        budget("")


def test_conflicting_annotations_are_refused(server: FakeOpenAI) -> None:
    """One agent with two different contracts in one graph is a mistake that is told at set-up."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    builder.add_node("again", asks(chat(server), "x"), metadata=budget("writer", max_tokens=1))
    with pytest.raises(ContractConflictError, match="'writer'"):
        govern_graph(builder, BudgetManager())


@pytest.mark.parametrize("graph", [None, 7, "graph"])
def test_what_is_no_graph_is_refused(graph: Any) -> None:
    """Wrong arguments are named."""
    with pytest.raises(ConfigurationError, match="needs a StateGraph or a compiled graph"):
        govern_graph(graph, BudgetManager())


def test_wrong_arguments_are_told(server: FakeOpenAI) -> None:
    """A manager that is none, or compile arguments for a compiled graph."""
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    with pytest.raises(ConfigurationError, match="needs a BudgetManager"):
        govern_graph(builder, 7)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="compiled already; checkpointer"):
        govern_graph(builder.compile(), BudgetManager(), checkpointer=InMemorySaver())
    with pytest.raises(TypeError, match="scope_by"):
        govern_graph(builder, BudgetManager(), scope_by="tenant")


def test_a_run_that_broke_off_resumes_on_the_same_books(server: FakeOpenAI) -> None:
    """A crash in the second node: what was used before it stays, `invoke(None)` adds the rest."""
    manager = BudgetManager()
    broken = [True]
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    write = asks(chat(server), "closer")

    def closer(state: State) -> Any:
        if broken:
            broken.clear()
            raise ValueError("the disk is full")
        return write(state)

    builder.add_node("closer", closer, metadata=budget(max_tokens=9_000))
    builder.add_edge("write", "closer")
    app = govern_graph(builder, manager, scope_by="thread_id", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    with pytest.raises(ValueError, match="disk"):
        app.invoke({"notes": []}, config)
    books = manager.scope("default/t")
    assert consumed(books) == by_system(server)
    app.invoke(None, config)
    assert len(server.log) == 3
    assert consumed(books) == by_system(server)
    assert sum(account.held for account in books.accounts().values()) == 0


def nested(server: FakeOpenAI) -> StateGraph[State, None, State, State]:
    """Return a graph whose subgraph holds a node that ends and one that falls back."""
    model = chat(server)
    inner = StateGraph(State)
    ends = budget("ends", max_tokens=1, on_exceeded="end")
    falls = budget("falls", max_tokens=1, on_exceeded={"fallback": "cheap"})
    inner.add_node("ends", asks(model, "ends"), metadata=ends)
    inner.add_node("falls", asks(model, "falls"), metadata=falls)
    inner.add_node("never", lambda state: {"notes": ["never"]})
    inner.add_node("cheap", lambda state: {"notes": ["cheap"]})
    inner.add_edge(START, "ends")
    inner.add_edge("ends", "falls")
    inner.add_edge("falls", "never")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile())
    outer.add_node("next", lambda state: {"notes": ["next"]})
    outer.add_edge(START, "team")
    outer.add_edge("team", "next")
    return outer


def test_nodes_of_subgraphs_do_what_their_annotations_say(server: FakeOpenAI) -> None:
    """The end of a budget is handled where it is, and subgraphs are still found."""
    app = govern_graph(nested(server), BudgetManager(), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    assert app.invoke({"notes": []}, config)["notes"] == ["cheap", "next"]
    assert server.log == ()
    ((name, team),) = app.get_subgraphs()
    assert name == "team"
    drawn = {(edge.source, edge.target) for edge in team.get_graph().edges}
    assert ("falls", "never") in drawn


def test_the_graph_that_was_given_knows_nothing_of_the_end(server: FakeOpenAI) -> None:
    """Its nodes, subgraphs and edges are as they were: without our handler all calls go out."""
    builder = nested(server)
    compiled = builder.compile()
    bound = {name: node.bound for name, node in compiled.nodes.items()}
    govern_graph(compiled, BudgetManager())
    assert {name: node.bound for name, node in compiled.nodes.items()} == bound
    notes = compiled.invoke({"notes": []})["notes"]
    assert (len(notes), notes[-2:]) == (4, ["never", "next"])
    assert len(server.log) == 2


def test_a_subgraph_on_the_way_is_governed_too(server: FakeOpenAI) -> None:
    """Annotated with `with_config` by somebody else than who adds the node."""
    model = chat(server)
    inner = StateGraph(State)
    inner.add_node("deep", asks(model, "deep"))
    inner.add_edge(START, "deep")
    annotated = inner.compile().with_config(
        metadata=budget("team", max_tokens=1, on_exceeded="end")
    )
    outer = StateGraph(State)
    outer.add_node("somewhere", annotated)
    outer.add_node("next", lambda state: {"notes": ["next"]})
    outer.add_edge(START, "somewhere")
    outer.add_edge("somewhere", "next")
    manager = BudgetManager()
    app = govern_graph(outer, manager)
    assert app.invoke({"notes": ["given"]})["notes"] == ["given", "next"]
    assert manager.accounts()["team"].denials == 1


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


def test_with_config_and_callers_callbacks_add_to_the_governed_graph(server: FakeOpenAI) -> None:
    """Configuring the app further keeps it governed; the caller's own callbacks hear too."""
    heard: list[str] = []

    class Listener(BaseCallbackHandler):
        def on_llm_end(self, response: Any, **kwargs: Any) -> None:
            heard.append("end")

    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=9_000), manager)
    app = app.with_config(tags=["mine"]).with_config({"recursion_limit": 10})
    app.invoke({"notes": []}, {"callbacks": [Listener(), *budget_callbacks(manager)]})
    assert heard == ["end", "end"]
    assert consumed(manager) == by_system(server)


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


def test_a_graph_on_another_machine_cannot_be_governed(server: FakeOpenAI) -> None:
    """A remote graph's calls are made elsewhere: said as the whole graph, warned of as a node."""
    remote = RemoteGraph("agent", url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="govern_graph where it is served"):
        govern_graph(remote, BudgetManager())
    builder = two_nodes(server, priority=3, max_tokens=9_000)
    builder.add_node("far", remote)
    builder.add_edge("write", "far")
    with pytest.warns(UserWarning, match="'far' runs on another machine"):
        govern_graph(builder, BudgetManager())
