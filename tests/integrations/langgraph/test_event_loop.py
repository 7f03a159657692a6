"""A graph on asyncio over a network store: the event loop goes on while the store is waited for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from tbcontracts import BudgetManager
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langgraph import budget, budgeted, govern_graph

TICKS = 50
# LangChain makes the coroutines of all inline handlers before it awaits the first. Where that one
# raises, the others are forgotten, and Python says so whenever it finds them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning"),
]


@pytest.fixture(autouse=True)
def _forgotten_coroutines() -> Iterator[None]:
    """Find them now, not in the middle of another test."""
    yield
    gc.collect()


class Ticker:
    """Counts how often the event loop comes round."""

    def __init__(self) -> None:
        self._left = 0
        self._done = asyncio.Event()

    async def tick(self) -> None:
        """Tick until cancelled."""
        while True:
            self._left -= 1
            if self._left == 0:
                self._done.set()
            await asyncio.sleep(0)

    async def ticks(self, number: int) -> None:
        """Wait for so many ticks from now."""
        self._left = number
        self._done.clear()
        await self._done.wait()


@contextmanager
def in_background(ticker: Ticker) -> Iterator[None]:
    """Let a ticker tick."""
    task = asyncio.ensure_future(ticker.tick())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("outbox", [False, True])
async def test_the_loop_goes_on_while_the_store_answers(
    world: Any, tmp_path: Path, outbox: bool
) -> None:
    """The store holds back each answer until the loop has come round fifty times."""
    store = SlowStore()
    manager = BudgetManager(store=store, outbox=tmp_path / "outbox.jsonl" if outbox else None)

    async def write(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await world.model.ainvoke(state["messages"], config)]}

    builder = StateGraph(MessagesState)
    node: Callable[..., Any] = write
    builder.add_node("writer", node, metadata=budget("writer", max_tokens=50_000))
    builder.add_edge(START, "writer")
    graph = govern_graph(builder, manager)
    ticker = Ticker()
    held_back = 0
    with in_background(ticker):
        store.hold_back()
        run = asyncio.ensure_future(graph.ainvoke({"messages": [("user", "hello")]}))
        while not run.done():
            waits = asyncio.ensure_future(store.waits.wait())
            await asyncio.wait({run, waits}, return_when=asyncio.FIRST_COMPLETED)
            waits.cancel()
            if run.done():
                break
            await ticker.ticks(TICKS)  # nothing answers meanwhile, and the loop comes round
            held_back += 1
            store.let_go()
            store.hold_back()
        store.let_go()
    await run
    assert held_back >= 3  # opening, the hold, the settlement
    assert store.blocked == 0  # nobody waited for the store on the loop's own thread
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (world.server.billed_tokens, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_graph_asks_for_budget_without_blocking(world: Any, wrapped: bool) -> None:
    """It pauses at the call; each replay finds the earlier grants, and none counts twice."""
    store = SlowStore()
    manager = BudgetManager(store=store)
    model = world.chat(max_completion_tokens=100)

    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    terms: dict[str, Any] = {"max_tokens": 10, "min_reserve": 0, "on_exceeded": "ask"}
    builder = StateGraph(MessagesState)
    node: Callable[..., Any] = write
    if wrapped:
        builder.add_node("writer", budgeted(manager, "writer", **terms)(node))
    else:
        builder.add_node("writer", node, metadata=budget("writer", **terms))
    builder.add_edge(START, "writer")
    graph = govern_graph(builder, manager, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    result = await graph.ainvoke({"messages": [("user", "hello")]}, config)
    asked = 0
    while "__interrupt__" in result:
        assert world.server.log == ()
        asked += 1
        result = await graph.ainvoke(Command(resume=40), config)
    assert asked == 3
    assert store.blocked == 0
    assert manager.report()["writer"]["allocated"] == 10 + 40 * asked
    assert manager.accounts()["writer"].consumed == world.server.billed_tokens


@pytest.mark.anyio
async def test_a_node_that_is_one_call_is_held_without_blocking() -> None:
    """Where `usage_fn` says what a node used, the node itself is held and charged."""
    store = SlowStore()
    manager = BudgetManager(store=store)
    manager.register_agent("writer", max_tokens=1_000)
    calls: list[str] = []

    @budgeted(manager, "writer", usage_fn=lambda update: len(update["messages"][0].content))
    async def write(state: MessagesState) -> dict[str, Any]:
        text = str(state["messages"][0].content)
        calls.append(text)
        if text == "fail":
            raise ValueError(text)
        return {"messages": [AIMessage("four")]}

    builder = StateGraph(MessagesState)
    node: Callable[..., Any] = write
    builder.add_node("writer", node)
    builder.add_edge(START, "writer")
    graph: Any = builder.compile()
    await graph.ainvoke({"messages": [("user", "go")]})
    assert manager.report()["writer"]["consumed"] == len("four")
    with pytest.raises(ValueError, match="fail"):
        await graph.ainvoke({"messages": [("user", "fail")]})
    assert calls == ["go", "fail"]
    assert store.blocked == 0
    account = manager.accounts()["writer"]
    assert (account.held, account.consumed) == (0, len("four") + account.unmeasured)
