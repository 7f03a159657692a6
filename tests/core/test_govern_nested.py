"""Governed functions with calls inside, and results and arguments that nobody expected."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.books import AccountView
from tbcontracts.endings import Ending
from tbcontracts.errors import ConfigurationError
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize

REPLY = {"text": "Hello.", "usage": {"prompt_tokens": 30, "completion_tokens": 12}}


@pytest.fixture
def manager() -> BudgetManager:
    """Return a manager with one agent that has plenty."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=10_000)
    return manager


def writer(manager: BudgetManager) -> AccountView:
    """Return the writer's account."""
    return manager.accounts()["writer"]


def begun(manager: BudgetManager) -> Any:
    """Begin a call as an integration does."""
    return manager.begin_call("writer", CallShape(RequestSize(5, 5), output_cap=50))


def test_a_request_beside_the_one_inside_is_charged_too(manager: BudgetManager) -> None:
    """A result that reports what no call inside has reported is of a request of its own."""

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        begun(manager).end(Ending(Usage(input_tokens=5, output_tokens=6)))
        return REPLY

    write()
    assert writer(manager).consumed == 11 + 42


def test_an_estimate_inside_is_taken_for_the_request_that_is_reported(
    manager: BudgetManager,
) -> None:
    """A call inside that was charged by estimate may be the one that the result reports."""

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        begun(manager).end(Ending(output_tokens_seen=3))
        return REPLY

    write()
    assert writer(manager).unmeasured == writer(manager).consumed > 0


def test_each_level_of_a_recursion_is_held_and_charged(manager: BudgetManager) -> None:
    """A governed function in a governed one is a call of its own: an endless one is stopped."""
    calls = 0

    @manager.govern("writer")
    def ask(depth: int) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if depth:
            ask(depth - 1)
        return {"usage": {"prompt_tokens": 400, "completion_tokens": 100 + depth}}

    ask(4)
    assert calls == 5
    assert writer(manager).consumed == 5 * 500 + (1 + 2 + 3 + 4)
    manager.change_contract("writer", max_tokens=writer(manager).consumed + 3_000)
    with pytest.raises(BudgetExceededError):
        ask(10_000)
    assert writer(manager).held == 0


def test_a_result_handed_up_through_governed_functions_is_charged_once(
    manager: BudgetManager,
) -> None:
    """What an inner governed function reported and the outer one returns is posted once."""

    @manager.govern("writer")
    def inner() -> object:
        return REPLY

    @manager.govern("writer")
    def outer() -> object:
        return inner()

    assert outer() is REPLY
    assert (writer(manager).consumed, writer(manager).held) == (42, 0)


def test_usage_of_an_agent_beside_a_governed_helper(manager: BudgetManager) -> None:
    """An agent that calls another one and then asks a model itself is charged for its own call."""
    manager.register_agent("helper", max_tokens=1_000)

    @manager.govern("helper")
    def helper() -> object:
        return {"usage": {"prompt_tokens": 6, "completion_tokens": 4}}

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        helper()
        return REPLY

    write()
    assert writer(manager).consumed == 42
    assert manager.accounts()["helper"].consumed == 10


def large(manager: BudgetManager, tokens: int) -> Any:
    """Begin a call inside that is larger than what the function's arguments tell."""
    return manager.begin_call(None, CallShape(RequestSize(tokens, tokens), output_cap=50))


@pytest.mark.parametrize("enforcement", ["expected", "strict"])
def test_a_call_inside_that_is_larger_makes_the_hold_grow(enforcement: str) -> None:
    """The hold grows to what the call inside needs; what cannot be paid for is not made."""
    manager = BudgetManager(enforcement=enforcement)
    manager.register_agent("writer", max_tokens=2_000, max_output_tokens=50, min_reserve=0)

    @manager.govern("writer")
    def write(tokens: int) -> None:
        call = large(manager, tokens)
        assert writer(manager).held == tokens + 50
        call.end(Ending(Usage(input_tokens=tokens, output_tokens=50)))

    write(1_000)
    assert (writer(manager).consumed, writer(manager).held) == (1_050, 0)
    with pytest.raises(BudgetExceededError, match="beyond the hold that is there"):
        write(1_500)
    assert (writer(manager).consumed, writer(manager).held) == (1_050, 0)


@pytest.mark.anyio
async def test_an_awaited_call_inside_makes_the_hold_grow_too(manager: BudgetManager) -> None:
    """The awaited door does the same."""

    @manager.govern("writer")
    async def write(tokens: int) -> None:
        shape = CallShape(RequestSize(tokens, tokens), output_cap=50)
        call = await manager.abegin_call(None, shape)
        assert writer(manager).held == tokens + 50
        await call.aend(Ending(Usage(input_tokens=tokens, output_tokens=50)))

    await write(5_000)
    assert writer(manager).consumed == 5_050
    with pytest.raises(BudgetExceededError):
        await write(9_000)
    assert (writer(manager).consumed, writer(manager).held) == (5_050, 0)


class Odd:
    """A result that cannot be looked at."""

    @property
    def content(self) -> str:
        """Fail."""
        raise ZeroDivisionError


@pytest.mark.parametrize("result", [{"choices": 5}, Odd()])
def test_odd_results_leave_no_hold_behind(manager: BudgetManager, result: object) -> None:
    """A result that cannot be read is the user's, and its call is charged by estimate."""
    assert manager.govern("writer")(lambda: result)() is result
    assert writer(manager).held == 0
    assert writer(manager).unmeasured > 0

    @manager.govern("writer")
    def stream() -> Iterator[object]:
        yield result

    assert list(stream()) == [result]
    assert writer(manager).held == 0


def test_what_is_never_begun_gives_its_hold_back(manager: BudgetManager) -> None:
    """A coroutine or generator that a plain function returned, and nobody ever began."""

    async def answer() -> None:
        """Never run."""

    def pieces() -> Iterator[str]:
        yield "never asked for"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "was never awaited", says Python
        for make in (answer, pieces):
            unused = manager.govern("writer")(lambda make=make: make())()
            assert writer(manager).held > 0
            del unused
            gc.collect()
            assert (writer(manager).held, writer(manager).consumed) == (0, 0)


def test_a_generator_that_was_begun_and_left_is_charged(manager: BudgetManager) -> None:
    """What began to run has an end of its own, also where the collector finds it."""

    def pieces() -> Iterator[str]:
        yield "some words that were read"
        yield "more"

    def made() -> Iterator[str]:
        return pieces()

    begun_one = manager.govern("writer")(made)()
    assert next(begun_one)
    del begun_one
    gc.collect()
    assert writer(manager).held == 0
    assert writer(manager).unmeasured > 0


@pytest.mark.parametrize("argument", [10**5_000, {"a": Odd()}], ids=["huge", "odd"])
def test_odd_arguments_are_the_functions_own_business(
    manager: BudgetManager, argument: object
) -> None:
    """A size that cannot be found is no reason to fail."""

    class Broken(dict[str, object]):
        def values(self) -> Any:
            raise ZeroDivisionError

        def items(self) -> Any:
            raise ZeroDivisionError

    assert manager.govern("writer")(lambda value: REPLY)(argument) is REPLY
    assert manager.govern("writer")(lambda value: REPLY)(Broken(a=1)) is REPLY
    assert writer(manager).consumed == 84


def test_a_fallback_that_is_no_function_is_refused_when_it_is_decorated() -> None:
    """Not when the budget ends, in the night."""
    manager = BudgetManager()
    manager.register_agent("writer", on_exceeded={"fallback": "gpt-4o-mini"})
    with pytest.raises(ConfigurationError, match="must be a function here, not str"):
        manager.govern("writer")
    for nothing in (None, ""):
        with pytest.raises(ValueError, match="names no fallback"):
            manager.register_agent("other", on_exceeded={"fallback": nothing})
