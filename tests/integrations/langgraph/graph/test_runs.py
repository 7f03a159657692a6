"""Runs of governed graphs: refusals, retries, fan-out, threads and resumption."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy, Send
from tests.integrations.langgraph.graph.conftest import (
    State,
    asks,
    by_system,
    chat,
    consumed,
    two_nodes,
)

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph import budget, govern_graph


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


def two_branches(
    server: FakeOpenAI, *, pass_config: bool, plain: bool = False
) -> StateGraph[State, None, State, State]:
    """Return a graph of two nodes side by side, which await their answers or are plain."""
    model = chat(server)
    builder = StateGraph(State)

    def asks_awaited(system: str) -> Any:
        async def node(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            given = config if pass_config else None
            answer = await model.ainvoke([("system", system), ("user", "Do it.")], given)
            return {"notes": [str(answer.content)]}

        return node

    def asks_plainly(system: str) -> Any:
        def node(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            given = config if pass_config else None
            answer = model.invoke([("system", system), ("user", "Do it.")], given)
            return {"notes": [str(answer.content)]}

        return node

    asks_as = asks_plainly if plain else asks_awaited
    for name in ("left", "right"):
        builder.add_node(name, asks_as(name), metadata=budget(max_tokens=9_000))
        builder.add_edge(START, name)
    return builder


@pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")
@pytest.mark.parametrize(
    "pass_config",
    [True, pytest.param(False, marks=pytest.mark.skipif(LOSES_CONTEXT, reason="Python 3.10"))],
)
@pytest.mark.parametrize("plain", [False, True])
def test_parallel_and_awaited_nodes_keep_their_agents(
    server: FakeOpenAI, pass_config: bool, plain: bool
) -> None:
    """Parallel branches, run with ainvoke, are told apart; on 3.10 if they pass the config on."""
    manager = BudgetManager()
    app = govern_graph(two_branches(server, pass_config=pass_config, plain=plain), manager)
    asyncio.run(app.ainvoke({"notes": []}))
    assert consumed(manager) == by_system(server)


@pytest.mark.skipif(not LOSES_CONTEXT, reason="Python 3.11 and later hand the context on")
@pytest.mark.parametrize("plain", [False, True])
def test_a_lost_context_is_warned_of(server: FakeOpenAI, plain: bool) -> None:
    """On Python 3.10 nodes of an awaited graph lose callbacks; whoever runs one is told."""
    manager = BudgetManager()
    app = govern_graph(two_branches(server, pass_config=False, plain=plain), manager)
    with pytest.warns(UserWarning, match="takes `config: RunnableConfig` and passes it on"):
        asyncio.run(app.ainvoke({"notes": []}))
    assert len(server.log) == 2
    assert consumed(manager) == {}


def test_streamed_messages_without_usage_are_not_free(server: FakeOpenAI) -> None:
    """`stream_mode="messages"` silently turns usage off for custom URLs: charged by estimate."""
    manager = BudgetManager()
    app = govern_graph(two_nodes(server, priority=3, max_tokens=9_000), manager)
    list(app.stream({"notes": []}, stream_mode="messages"))
    accounts = manager.accounts()
    assert all(accounts[name].unmeasured > 0 for name in ("research", "writer"))
    assert all(accounts[name].held == 0 for name in ("research", "writer"))


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
