"""Governed functions and coroutines: held before, charged after, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.core.govern.conftest import REPLY, writer

from tbcontracts import BudgetExceededError, BudgetManager, UnknownAgentError, Usage

# --- plain functions ------------------------------------------------------------------------------


def test_a_function_is_charged_what_its_result_says(manager: BudgetManager) -> None:
    """The usage in the result is on the books to the token, and a hold stood during the call."""
    held: list[int] = []

    @manager.govern("writer")
    def write(prompt: str) -> dict[str, Any]:
        held.append(writer(manager).held)
        return REPLY

    assert write("hi") is REPLY
    assert write.__name__ == "write"
    assert held[0] > 0
    assert writer(manager).consumed == 42
    assert (writer(manager).unmeasured, writer(manager).held) == (0, 0)


def test_a_result_without_usage_is_an_estimate(manager: BudgetManager) -> None:
    """What goes in and what comes out is counted, and marked as unmeasured."""

    @manager.govern("writer")
    def write(prompt: str) -> str:
        return "word " * 100

    write("word " * 50)
    account = writer(manager)
    assert 150 <= account.consumed == account.unmeasured <= 300


def test_an_invisible_result_is_charged_the_whole_hold(manager: BudgetManager) -> None:
    """Where neither usage nor text can be seen, what was set aside is charged."""
    held: list[int] = []

    @manager.govern("writer")
    def write() -> object:
        held.append(writer(manager).held)
        return object()

    write()
    assert writer(manager).consumed == writer(manager).unmeasured == held[0] > 0


@pytest.mark.parametrize(
    ("said", "consumed"),
    [(42, 42), (Usage(input_tokens=1, output_tokens=2), 3), ({"total_tokens": 9}, 9)],
)
def test_usage_fn_says_where_the_usage_is(manager: BudgetManager, said: Any, consumed: int) -> None:
    """`usage_fn` may return a number, a usage, or what a provider reported."""

    @manager.govern("writer", usage_fn=lambda result: result["cost"])
    def write() -> dict[str, Any]:
        return {"cost": said}

    write()
    assert writer(manager).consumed == consumed
    assert writer(manager).unmeasured == 0


def test_a_usage_fn_that_fails_loses_neither_result_nor_charge(
    manager: BudgetManager, caplog: pytest.LogCaptureFixture
) -> None:
    """The result is the user's, the charge an estimate, and the log says why."""

    @manager.govern("writer", usage_fn=lambda result: result["nothing"])
    def write() -> dict[str, Any]:
        return REPLY

    with caplog.at_level(logging.ERROR, "tbcontracts"):
        assert write() is REPLY
    assert "could not be read" in caplog.text
    assert writer(manager).consumed == writer(manager).unmeasured > 0
    assert writer(manager).held == 0


def test_an_error_is_charged_by_what_it_proves(manager: BudgetManager) -> None:
    """An HTTP error is free; any other end may have been billed, and is charged by estimate."""

    class RejectedError(Exception):
        status_code = 429

    @manager.govern("writer")
    def write(error: Exception) -> None:
        raise error

    with pytest.raises(RejectedError):
        write(RejectedError())
    assert writer(manager).consumed == 0
    with pytest.raises(TimeoutError):
        write(TimeoutError())
    assert writer(manager).consumed == writer(manager).unmeasured > 0
    assert writer(manager).held == 0


def test_a_function_that_cannot_be_paid_for_is_not_called(manager: BudgetManager) -> None:
    """The refusal comes before the call."""
    manager.register_agent("poor", max_tokens=1)
    called: list[object] = []

    @manager.govern("poor")
    def write(prompt: str) -> None:
        called.append(prompt)

    with pytest.raises(BudgetExceededError) as caught:
        write("x" * 100_000)
    assert caught.value.agent_name == "poor"
    assert called == []


def test_methods_and_callable_objects(manager: BudgetManager) -> None:
    """Methods, and objects that are called like functions, can be governed."""

    class Desk:
        @manager.govern("writer")
        def write(self, prompt: str) -> dict[str, Any]:
            return REPLY

        def __call__(self, prompt: str) -> dict[str, Any]:
            return REPLY

    assert Desk().write("hi") is REPLY
    assert manager.govern("writer")(Desk())("hi") is REPLY
    assert writer(manager).consumed == 84


def test_what_cannot_be_governed(manager: BudgetManager) -> None:
    """An unknown agent and a value that is no function are refused where they are written."""
    with pytest.raises(UnknownAgentError, match="'writer'"):
        manager.govern("writter")
    nothing: Any = 7
    with pytest.raises(TypeError, match="decorates a function, not int"):
        manager.govern("writer")(nothing)
    for argument in ("confidence_fn", "usage_fn", "ask_fn"):
        wrong: dict[str, Any] = {argument: 7}
        with pytest.raises(TypeError, match=argument):
            manager.govern("writer", **wrong)


def test_inside_the_agent_is_the_current_one(manager: BudgetManager) -> None:
    """Calls that name no agent are the governed one's."""

    @manager.govern("writer")
    def write() -> str:
        return str(manager.current_agent)

    assert write() == "writer"
    assert manager.current_agent is None


# --- coroutines -----------------------------------------------------------------------------------


def test_a_coroutine_is_charged(manager: BudgetManager) -> None:
    """`async def`, and a function that returns a coroutine, are charged when they are done."""

    @manager.govern("writer")
    async def write() -> dict[str, Any]:
        await asyncio.sleep(0)
        return REPLY

    @manager.govern("writer")
    def later() -> Any:
        async def reply() -> dict[str, Any]:
            return REPLY

        return reply()

    async def main() -> None:
        assert await write() is REPLY
        assert await later() is REPLY

    asyncio.run(main())
    assert writer(manager).consumed == 84


def test_of_40_gathered_coroutines_exactly_two_run() -> None:
    """Of 40 calls of 2,000 on a budget of 5,000, exactly two begin."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=5_000, max_output_tokens=2_000)
    began: list[int] = []
    all_refused = asyncio.Event()
    refused: list[BaseException] = []

    @manager.govern("writer")
    async def write(number: int) -> Usage:
        began.append(number)
        await all_refused.wait()
        return Usage(input_tokens=0, output_tokens=2_000)

    async def attempt(number: int) -> None:
        try:
            await write(number)
        except BudgetExceededError as error:
            refused.append(error)
            if len(refused) == 38:
                all_refused.set()

    async def main() -> None:
        await asyncio.gather(*(attempt(number) for number in range(40)))

    asyncio.run(main())
    assert len(began) == 2
    assert writer(manager).consumed == 4_000


def test_a_cancelled_coroutine_is_charged_its_input(manager: BudgetManager) -> None:
    """What was sent before a cancellation is on the books, as an estimate."""

    @manager.govern("writer")
    async def write(prompt: str) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(write("word " * 20))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert 20 <= writer(manager).consumed == writer(manager).unmeasured <= 60
    assert writer(manager).held == 0
