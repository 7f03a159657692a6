"""Governed generators: charged what their pieces say, also where a stream is left or breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.core.govern.conftest import REPLY, writer

from tbcontracts import BudgetManager


def chunks() -> list[Any]:
    """Return a stream as OpenAI's client yields it: text, and the usage in the last piece."""
    pieces: list[Any] = [
        {"choices": [{"delta": {"content": word}}], "usage": None} for word in ("Hel", "lo")
    ]
    return [*pieces, {"choices": [], "usage": REPLY["usage"]}]


def test_a_generator_is_charged_what_its_pieces_say(manager: BudgetManager) -> None:
    """The hold stands while the stream runs, and outside the steps nothing is left behind."""
    seen: list[object] = []

    @manager.govern("writer")
    def stream() -> Iterator[Any]:
        seen.append(manager.current_agent)
        yield from chunks()

    iterator = stream()
    assert writer(manager).held == 0  # nobody has asked for anything yet
    next(iterator)
    assert manager.current_agent is None
    assert writer(manager).held > 0
    assert len(list(iterator)) == 2
    assert seen == ["writer"]
    assert (writer(manager).consumed, writer(manager).unmeasured) == (42, 0)


def test_usages_of_langchain_chunks_add_up(manager: BudgetManager) -> None:
    """LangChain reports input in the first chunk and output in the last."""

    def chunk(**usage: int) -> SimpleNamespace:
        return SimpleNamespace(content="word", usage_metadata=usage or None)

    @manager.govern("writer")
    def stream() -> Iterator[Any]:
        yield chunk(input_tokens=30, output_tokens=0, total_tokens=30)
        yield chunk()
        yield chunk(input_tokens=0, output_tokens=12, total_tokens=12)

    list(stream())
    assert writer(manager).consumed == 42


def test_a_usage_that_grows_counts_once(manager: BudgetManager) -> None:
    """Providers that report the usage so far with every piece are charged the last one."""

    @manager.govern("writer")
    def stream() -> Iterator[Any]:
        for said in (4, 8, 12):
            yield {"usage": {"prompt_tokens": 30, "completion_tokens": said}}

    list(stream())
    assert writer(manager).consumed == 42


def test_a_stream_that_is_left_is_an_estimate(manager: BudgetManager) -> None:
    """Whoever stops listening is charged the input and what came by; the generator is closed."""
    closed: list[bool] = []

    @manager.govern("writer")
    def stream(prompt: str) -> Iterator[str]:
        try:
            for _ in range(1_000):
                yield "word "
        finally:
            closed.append(True)

    iterator = stream("word " * 20)
    for _ in range(10):
        next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert closed == [True]
    assert 30 <= writer(manager).consumed == writer(manager).unmeasured <= 80
    assert writer(manager).held == 0


def test_generators_take_what_is_sent_and_thrown(manager: BudgetManager) -> None:
    """A governed generator is one: send, throw, and its return value go through."""

    @manager.govern("writer")
    def echo() -> Any:
        got = yield "first"
        try:
            got = yield got
        except KeyError:
            got = yield "caught"
        return got

    generator = echo()
    assert next(generator) == "first"
    assert generator.send("sent") == "sent"
    assert generator.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as stopped:
        generator.send("last")
    assert stopped.value.value == "last"
    assert writer(manager).held == 0


def test_an_error_in_a_stream_goes_through(manager: BudgetManager) -> None:
    """A stream that breaks off raises what it raised, and is charged by estimate."""

    @manager.govern("writer")
    def stream() -> Iterator[Any]:
        yield {"usage": {"prompt_tokens": 30, "completion_tokens": 1}}
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        list(stream())
    assert writer(manager).consumed == writer(manager).unmeasured >= 31


def test_an_async_generator_is_charged(manager: BudgetManager) -> None:
    """Async generators: read to the end, sent to, thrown into, and left."""

    @manager.govern("writer")
    async def stream() -> AsyncIterator[Any]:
        for piece in chunks():
            yield piece

    @manager.govern("writer")
    async def echo() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError:
            yield "caught"

    async def main() -> None:
        assert [piece async for piece in stream()] == chunks()
        assert (writer(manager).consumed, writer(manager).unmeasured) == (42, 0)
        generator = echo()
        assert await anext(generator) == "first"
        assert await generator.asend("sent") == "sent"
        assert await generator.athrow(KeyError()) == "caught"
        await generator.aclose()
        assert writer(manager).held == 0

    asyncio.run(main())
    assert writer(manager).unmeasured > 0


def test_a_cancelled_async_generator_is_charged(manager: BudgetManager) -> None:
    """A stream whose consumer is cancelled leaves no hold behind."""

    @manager.govern("writer")
    async def stream() -> AsyncIterator[str]:
        yield "word"
        await asyncio.Event().wait()

    async def main() -> None:
        async def consume() -> None:
            async for _ in stream():
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert writer(manager).held == 0
    assert writer(manager).consumed == writer(manager).unmeasured > 0
