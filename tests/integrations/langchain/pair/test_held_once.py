"""Gate and guard on a store behind a network: one hold for each call, and the loop goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from tests.integrations.langchain.pair.conftest import chat, governed, kinds

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langchain import budget_callbacks

# LangChain makes the coroutines of all inline handlers before it awaits the first. Where that one
# raises, or is cancelled, the others are forgotten, and Python says so whenever it finds them.
pytestmark = [
    pytest.mark.usefixtures("forgotten_coroutines"),
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
    # LangChain keeps its HTTP clients longer than a test keeps its event loop.
    pytest.mark.filterwarnings(
        "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning"),
]


def graph_of(model: Any) -> Any:
    """Return a graph of one node that works awaited and not."""
    from langgraph.graph import START, MessagesState, StateGraph

    def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"], config)]}

    async def anode(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    from langgraph._internal._runnable import RunnableCallable

    builder = StateGraph(MessagesState)
    builder.add_node("a", RunnableCallable(node, anode))
    builder.add_edge(START, "a")
    return builder.compile()


ASK = {"messages": [HumanMessage("hello")]}


def test_stores_in_the_process_need_one_handler(store: SlowStore) -> None:
    """The pair is only for stores behind a network."""
    manager, config = governed(store)
    assert len(config["callbacks"]) == 2
    assert len(budget_callbacks(BudgetManager())) == 1
    assert budget_callbacks(manager) == budget_callbacks(manager)


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "generate", "graph"])
def test_calls_that_are_not_awaited_are_held_once(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """LangChain drops an awaited handler's refusals there: the guard holds, the gate sees it."""
    manager, config = governed(store)
    model = chat(server)
    ways: dict[str, Any] = {
        "invoke": lambda: model.invoke("hello", config),
        "stream": lambda: list(model.stream("hello", config)),
        "batch": lambda: model.batch(["hello", "there"], config),
        "generate": lambda: model.generate(
            [[HumanMessage("hello")], [HumanMessage("there")]],
            **config,
        ),
        "graph": lambda: graph_of(model).invoke(ASK, config),
    }
    ways[way]()
    assert sorted(kinds(manager)) == ["held"] * len(server.log) + ["settled"] * len(server.log)
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "way", ["ainvoke", "astream", "abatch", "agenerate", "astream_events", "graph", "sync in loop"]
)
async def test_awaited_calls_are_held_once_without_blocking(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """The gate holds and settles, and the guard has nothing to do."""
    manager, config = governed(store)
    model = chat(server)
    store.blocked = 0
    if way == "ainvoke":
        await model.ainvoke("hello", config)
    elif way == "astream":
        _ = [chunk async for chunk in model.astream("hello", config)]
    elif way == "abatch":
        await model.abatch(["hello", "there"], config)
    elif way == "agenerate":
        await model.agenerate([[HumanMessage("hello")], [HumanMessage("there")]], **config)
    elif way == "astream_events":
        settled = threading.Event()

        def hear(scope: str, entry: Any) -> None:
            if entry.kind == "settled":
                settled.set()

        manager.add_listener(hear)
        _ = [event async for event in model.astream_events("hello", config, version="v2")]
        await asyncio.to_thread(settled.wait, 30)  # LangChain tells of the end a little later
    elif way == "graph":
        await graph_of(model).ainvoke(ASK, config)
    else:
        model.invoke("hello", config)  # blocks this loop by itself
    assert sorted(kinds(manager)) == ["held"] * len(server.log) + ["settled"] * len(server.log)
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)
    assert (store.blocked > 0) == (way == "sync in loop")


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["answer", "failure"])
async def test_the_loop_goes_on_while_the_store_is_slow(
    server: FakeOpenAI, store: SlowStore, end: str
) -> None:
    """Another task advances while the gate waits for a hold, and while it waits for an end."""
    manager, config = governed(store)
    model = chat(server) if end == "answer" else chat(server, timeout=0.0001)
    store.blocked = 0
    ticks = asyncio.Semaphore(0)

    async def tick() -> None:
        while True:
            ticks.release()
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    store.hold_back()
    call = asyncio.ensure_future(model.ainvoke("hello", config))
    for _ in ("the hold", "the end"):
        await store.waits.wait()
        for _ in range(1_000):
            await ticks.acquire()
        assert not call.done()
        store.waits.clear()
        store.let_go()
        store.hold_back()
    store.let_go()
    await asyncio.gather(call, return_exceptions=True)
    ticker.cancel()
    assert store.blocked == 0
    assert manager.accounts()["a"].held == 0
    if end == "answer":
        assert manager.accounts()["a"].consumed == server.billed_tokens


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "sync in loop"])
def test_a_refused_call_is_never_sent_and_is_refused_once(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """After one of them refused, the other does not ask again."""
    manager, config = governed(store, max_tokens=5)
    model = chat(server)

    async def ask() -> None:
        if way == "ainvoke":
            await model.ainvoke("hello", config)
        elif way == "astream":
            _ = [chunk async for chunk in model.astream("hello", config)]
        else:
            model.invoke("hello", config)

    def run() -> None:
        if way == "invoke":
            model.invoke("hello", config)
        elif way == "stream":
            list(model.stream("hello", config))
        else:
            asyncio.run(ask())

    with pytest.raises(BudgetExceededError, match="'a' asked for"):
        run()
    assert server.log == ()
    account = manager.accounts()["a"]
    assert (account.denials, account.held) == (1, 0)
