"""Calls that fail, break off or are cancelled: what the callback handler charges for them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.integrations.langchain.handler.conftest import TEXT, chat, governed

from tbcontracts.testing import Answer, FakeOpenAI, Fault


@pytest.mark.parametrize("stream", [False, True])
def test_missing_usage_is_charged_by_estimate(stream: bool) -> None:
    """A reply without usage is charged by count of prompt and answer, and marked unmeasured."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, report_usage=False)) as server:
        manager, config = governed()
        model = chat(server)
        if stream:
            list(model.stream("hello", config))
        else:
            model.invoke("hello", config)
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured > 0
        assert account.held == 0
        assert abs(account.consumed - server.billed_tokens) <= 10


def test_http_errors_are_not_charged() -> None:
    """An HTTP error status proves that nothing was billed: the hold is given back."""
    with FakeOpenAI([Fault(status=429), Fault(status=500), Fault(status=400)]) as server:
        manager, config = governed()
        for _ in range(3):
            with pytest.raises(Exception, match="scripted provider"):
                chat(server).invoke("hello", config)
        account = manager.accounts()["a"]
        assert (account.consumed, account.held) == (0, 0)
        assert len(server.log) == 3


def test_a_provider_that_cannot_be_reached_costs_nothing(server: FakeOpenAI) -> None:
    """No connection, no bill."""
    manager, config = governed()
    model = ChatOpenAI(base_url="http://127.0.0.1:9/v1", api_key=SecretStr("test"), max_retries=0)
    with pytest.raises(Exception, match="Connection error"):
        model.invoke("hello", config)
    assert manager.accounts()["a"].consumed == 0


@pytest.mark.parametrize("kind", ["drop", "garbage"])
def test_lost_and_unreadable_replies_are_charged_by_estimate(kind: str) -> None:
    """A call whose reply never reached us may be billed: its whole hold is charged, unmeasured."""
    with FakeOpenAI([Fault(kind=kind, billed_tokens=30)]) as server:
        manager, config = governed()
        with pytest.raises(Exception, match=r".+"):
            chat(server, max_tokens=40).invoke("hello", config)
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured > 40
        assert account.held == 0


@pytest.mark.parametrize("way", ["dropped by the server", "left by the caller"])
def test_a_broken_stream_is_charged_for_input_and_what_arrived(way: str) -> None:
    """A stream that breaks off costs its input and the output so far, unmeasured."""
    drop = 2 if way.startswith("dropped") else None
    text = "one two three four five six seven eight nine ten eleven twelve"
    with FakeOpenAI(lambda request: Answer(text=text, drop_after_chunks=drop)) as server:
        manager, config = governed()
        stream = chat(server).stream("hello", config)
        if drop is None:
            for _, _chunk in zip(range(3), stream, strict=False):
                pass
            stream.close()  # type: ignore[attr-defined]
        else:
            with pytest.raises(Exception, match=r".+"):
                list(stream)
        account = manager.accounts()["a"]
        assert account.held == 0
        assert account.consumed == account.unmeasured
        assert 5 < account.consumed < 40


@pytest.mark.anyio
async def test_a_cancelled_stream_is_charged_and_leaves_no_hold() -> None:
    """Cancelling a streaming task settles it by what arrived."""
    gate = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, hold=gate)) as server:
        manager, config = governed()

        async def read() -> None:
            _ = [chunk async for chunk in chat(server).astream("hello", config)]

        task = asyncio.create_task(read())
        await asyncio.to_thread(server.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        account = manager.accounts()["a"]
        assert account.held == 0
        assert account.consumed == account.unmeasured > 0


@pytest.mark.anyio
async def test_a_cancelled_ainvoke_below_a_chain_is_charged_its_input() -> None:
    """LangChain reports no end of a cancelled `ainvoke`; the end of its parent is taken for it."""
    gate = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, hold=gate)) as server:
        manager, config = governed()
        model = chat(server, max_tokens=50)

        async def node(text: str, config: Any) -> AIMessage:
            return await model.ainvoke(text, config)

        chain: Any = RunnableLambda(node)
        task = asyncio.create_task(chain.ainvoke("hello", config))
        await asyncio.to_thread(server.wait_for_requests, 1)
        assert manager.accounts()["a"].held > 50
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        account = manager.accounts()["a"]
        assert account.held == 0
        assert 0 < account.consumed < 50
        assert account.unmeasured == account.consumed
