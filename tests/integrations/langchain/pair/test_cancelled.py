"""Tasks and loops that end between gate and guard: each settlement is carried through."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from tests.integrations.langchain.pair.conftest import TEXT, chat, governed, kinds, quiet

from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts.testing.slow_store import SlowStore

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
]


@contextmanager
def answers_when_asked() -> Iterator[tuple[FakeOpenAI, threading.Event]]:
    """Run a provider that answers when an event is set."""
    answer = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, hold=answer)) as server:
        yield server, answer


@pytest.mark.anyio
async def test_a_gate_that_is_cancelled_while_it_waits_leaves_no_hold(
    server: FakeOpenAI, store: SlowStore
) -> None:
    """The hold took effect, the answer came to nobody: it is given back, and nothing is sent."""
    manager, config = governed(store)
    store.hold_back()
    call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
    await store.waits.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    store.let_go()
    await quiet()
    assert kinds(manager) == ["held", "voided"]
    assert server.log == ()


@pytest.mark.anyio
async def test_a_settlement_is_carried_through_when_its_task_is_cancelled(
    store: SlowStore,
) -> None:
    """The answer was billed; whoever waited for it has gone; the books still say it."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):
        call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
        await asyncio.to_thread(server.wait_for_requests, 1)
        store.hold_back()
        answer.set()
        await store.waits.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        store.let_go()
        await quiet()
        account = manager.accounts()["a"]
        assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


def test_a_settlement_is_carried_through_when_the_loop_closes(store: SlowStore) -> None:
    """`asyncio.run` cancels all that is under way at its end; the usage is booked before."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):

        async def main() -> None:
            call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
            await asyncio.to_thread(server.wait_for_requests, 1)
            store.hold_back()
            answer.set()
            await store.waits.wait()
            call.cancel()
            store._free.set()  # only what asks from now on is answered

        asyncio.run(main())
        account = manager.accounts()["a"]
        assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


@pytest.mark.anyio
async def test_a_cancelled_call_below_a_chain_is_ended_without_blocking(store: SlowStore) -> None:
    """The chain's end is heard by the guard, in the loop: it books in the background."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):
        model = chat(server)

        async def node(text: str, config: Any) -> Any:
            return await model.ainvoke(text, config)

        chain: Any = RunnableLambda(node)
        call = asyncio.ensure_future(chain.ainvoke("hello", config))
        await asyncio.to_thread(server.wait_for_requests, 1)
        store.blocked = 0
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await quiet()
        answer.set()
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured > 0
        assert (account.held, store.blocked) == (0, 0)
