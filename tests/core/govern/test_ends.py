"""The end of a budget at a governed function: end, fall back or ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.core.govern.conftest import REPLY, writer

from tbcontracts import BudgetExceededError, BudgetManager


def poor(**settings: Any) -> BudgetManager:
    """Return a manager whose writer can pay for nothing."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=1, **settings)
    return manager


def test_end_finishes_with_what_there_is() -> None:
    """Under "end" a refused function returns None, and a generator yields nothing."""
    manager = poor(on_exceeded="end")

    @manager.govern("writer")
    def write() -> str:
        raise AssertionError

    @manager.govern("writer")
    def stream() -> Iterator[str]:
        yield "never"

    @manager.govern("writer")
    async def awrite() -> str:
        raise AssertionError

    @manager.govern("writer")
    async def astream() -> AsyncIterator[str]:
        yield "never"

    async def main() -> list[Any]:
        return [await awrite(), [piece async for piece in astream()]]

    assert write() is None
    assert list(stream()) == []
    assert asyncio.run(main()) == [None, []]
    assert writer(manager).denials >= 1


def test_end_keeps_the_reserve_for_the_closing_call() -> None:
    """Ordinary holds stop at the reserve; inside `closing` it may be used."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=100, min_reserve=40, on_exceeded="end")
    manager.reserve("writer", 60)
    with pytest.raises(BudgetExceededError, match="reserve") as caught:
        manager.reserve("writer", 10)
    assert caught.value.code == "reserve_kept"
    with manager.closing("writer"):
        assert manager.reserve("writer", 40).tokens == 40


def test_fallback_is_called_instead() -> None:
    """A fallback gets the arguments; governed itself, it passes the gate of its own agent."""
    manager = BudgetManager()
    manager.register_agent("cheap", max_tokens=1_000, priority=2)

    @manager.govern("cheap")
    def cheap(prompt: str, *, style: str = "") -> dict[str, Any]:
        return {**REPLY, "text": prompt + style}

    manager.register_agent("writer", max_tokens=1, on_exceeded={"fallback": cheap})

    @manager.govern("writer")
    def write(prompt: str, *, style: str = "") -> dict[str, Any]:
        raise AssertionError

    assert write("a", style="b")["text"] == "ab"
    assert manager.report()["cheap"]["consumed"] == 42


def test_a_fallback_for_every_kind_of_function() -> None:
    """Generators and coroutines fall back to their own kind."""

    def pieces() -> Iterator[int]:
        yield from (1, 2)

    async def apieces() -> AsyncIterator[int]:
        for number in (1, 2):
            yield number

    async def value() -> int:
        return 7

    def governed(fallback: Any, function: Any) -> Any:
        return poor(on_exceeded={"fallback": fallback}).govern("writer")(function)

    async def never() -> None:
        raise AssertionError

    async def main() -> None:
        assert await governed(value, never)() == 7
        assert [piece async for piece in governed(apieces, apieces)()] == [1, 2]

    assert list(governed(pieces, pieces)()) == [1, 2]
    asyncio.run(main())


def test_a_fallback_that_is_no_function_says_so() -> None:
    """The name of a graph's node means nothing to a plain function."""
    manager = poor(on_exceeded={"fallback": "other_node"})
    with pytest.raises(Exception, match="must be a function here"):
        manager.govern("writer")(print)("x")


def test_ask_pauses_and_goes_on() -> None:
    """Whoever is asked sees what is lacking; the grant is new budget, and the call goes on."""
    manager = poor(on_exceeded="ask")
    asked: list[Any] = []

    def grant(request: Any) -> int:
        asked.append(request)
        return int(request.lacking)

    @manager.govern("writer", ask_fn=grant)
    def write() -> dict[str, Any]:
        return REPLY

    assert write() is REPLY
    assert len(asked) == 1
    assert asked[0].agent_name == "writer"
    assert [entry.kind for entry in manager.journal()] == [
        "opened",
        "denied",
        "topped_up",
        "held",
        "settled",
    ]


@pytest.mark.parametrize("answer", [0, None])
def test_ask_and_be_refused(answer: int | None) -> None:
    """No grant is a refusal, as without anybody to ask."""
    manager = poor(on_exceeded="ask")
    with pytest.raises(BudgetExceededError):
        manager.govern("writer", ask_fn=lambda request: answer)(print)("x")
    with pytest.raises(BudgetExceededError):
        manager.govern("writer")(print)("x")


def test_ask_is_awaited() -> None:
    """A coroutine may be asked where the function is one."""
    manager = poor(on_exceeded="ask")

    async def grant(request: Any) -> int:
        await asyncio.sleep(0)
        return int(request.lacking)

    @manager.govern("writer", ask_fn=grant)
    async def write() -> dict[str, Any]:
        return REPLY

    assert asyncio.run(write()) is REPLY
