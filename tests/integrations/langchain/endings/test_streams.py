"""Streams that are left or stopped: what they are charged, and that no hold stays."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from tests.integrations.langchain.endings.conftest import chat, governed

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


WORDS = "one two three four five six seven eight nine ten eleven twelve"


@pytest.mark.parametrize("way", ["break", "close", "held, then closed", "forgotten"])
def test_streams_that_are_left(way: str) -> None:
    """Input and what arrived are charged; a stream that is only kept waits for its end."""
    with FakeOpenAI(lambda request: Answer(text=WORDS)) as server:
        manager, config = governed()
        stream: Any = chat(server).stream("hello", config)
        seen = ""
        for chunk in stream:
            seen += chunk.content
            if "four" in seen:
                break
        if way == "held, then closed":
            assert manager.accounts()["a"].held > 0
        if way in ("close", "held, then closed"):
            stream.close()
        del stream
        gc.collect()
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured
        assert account.consumed == manager.count_text("hello") + 4 + manager.count_text(seen)
        assert account.held == 0


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["aclose", "break"])
async def test_awaited_streams_that_are_left(way: str) -> None:
    """LangChain tells of an abandoned one a moment later."""
    with FakeOpenAI(lambda request: Answer(text=WORDS)) as server:
        manager, config = governed()
        stream: Any = chat(server).astream("hello", config)
        async for chunk in stream:
            if chunk.content:
                break
        if way == "aclose":
            await stream.aclose()
        else:
            del stream
            gc.collect()
            for _ in range(100):  # one turn of the loop for each generator in the other
                await asyncio.sleep(0)
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured > 5
        assert account.held == 0


def test_a_strict_stream_is_stopped_where_the_budget_ends() -> None:
    """The provider does not keep the cap it was given: the stream ends at the end of the budget."""
    long = "word " * 3_000

    def answer(request: ScriptedRequest) -> Answer:
        return Answer(text=long, output_tokens=3_000)

    with FakeOpenAI(answer) as server:
        manager, config = governed(1_000, enforcement="strict")
        model = chat(server, max_tokens=100, stream_usage=True)
        with pytest.raises(BudgetExceededError, match="still being written") as stopped:
            list(model.stream("hello", config))
        assert stopped.value.is_retryable is False  # type: ignore[attr-defined]
        account = manager.accounts()["a"]
        assert account.held == 0
        assert account.consumed == account.unmeasured
        assert 700 < account.consumed <= 1_000
        grown = [entry for entry in manager.journal() if entry.kind == "held"]
        assert len(grown) > 2


def test_an_expected_stream_is_not_stopped() -> None:
    """Outside strict mode what is too much is an overdraft, which blocks the next call."""

    def answer(request: ScriptedRequest) -> Answer:
        return Answer(text="word " * 500, output_tokens=500)

    with FakeOpenAI(answer) as server:
        manager, config = governed(200)
        list(chat(server, max_tokens=100, stream_usage=True).stream("hello", config))
        assert manager.accounts()["a"].consumed == server.billed_tokens > 200
        with pytest.raises(BudgetExceededError):
            chat(server).invoke("hello", config)
