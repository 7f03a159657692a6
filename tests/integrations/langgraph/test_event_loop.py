"""A graph on asyncio over a network store: the event loop goes on while the store is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph

from tbcontracts import BudgetManager
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langgraph import budget, govern_graph

TICKS = 50
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


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

    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await world.model.ainvoke(state["messages"])]}

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
