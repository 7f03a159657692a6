"""Governed functions of every kind: held before, charged after, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tbcontracts import (
    BudgetExceededError,
    BudgetManager,
    ConfidenceGateError,
    UnknownAgentError,
    Usage,
)
from tbcontracts.books import AccountView
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request

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


def begun(manager: BudgetManager, prompt: str = "hi") -> Any:
    """Begin a call as an integration does."""
    return manager.begin_call("writer", CallShape(size_request([prompt]), output_cap=50))


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


# --- generators -----------------------------------------------------------------------------------


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


# --- calls inside ---------------------------------------------------------------------------------


def test_the_first_call_inside_is_the_one_that_was_held_for(manager: BudgetManager) -> None:
    """One call, one hold: what the call inside reports is what is charged, once."""

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        begun(manager).end(Ending(Usage.read(REPLY)))
        return REPLY  # the same request, seen twice

    write()
    assert writer(manager).consumed == 42

    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]


def test_a_loop_inside_is_stopped() -> None:
    """Further calls inside hold for themselves, so a loop cannot pass the budget."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=500, max_output_tokens=50)
    sent: list[int] = []

    @manager.govern("writer")
    def loop() -> None:
        while True:
            call = begun(manager)
            sent.append(1)
            call.end(Ending(Usage(input_tokens=50, output_tokens=50)))

    with pytest.raises(BudgetExceededError):
        loop()
    assert writer(manager).consumed == 100 * len(sent) <= 500
    assert len(sent) == 5
    assert writer(manager).held == 0


def test_another_agent_inside_pays_for_itself(manager: BudgetManager) -> None:
    """A governed function that only calls others is charged nothing of its own."""
    manager.register_agent("helper", max_tokens=1_000)

    @manager.govern("helper")
    def help_out() -> dict[str, Any]:
        return REPLY

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        return help_out()

    write()
    assert manager.report()["helper"]["consumed"] == 42
    assert manager.report()["writer"]["consumed"] == 0
    assert writer(manager).held == 0


def test_an_end_that_comes_later_replaces_the_estimate(manager: BudgetManager) -> None:
    """A call that was left running in the background is an estimate until it ends."""
    calls: list[Any] = []

    @manager.govern("writer")
    def write() -> None:
        calls.append(begun(manager, "word " * 10))

    write()
    assert writer(manager).consumed == writer(manager).unmeasured > 0
    calls[0].end(Ending(Usage(input_tokens=5, output_tokens=6)))
    assert (writer(manager).consumed, writer(manager).unmeasured) == (11, 0)


def test_a_rejected_call_inside_is_free(manager: BudgetManager) -> None:
    """A call inside that proves to be unbilled gives the hold back."""

    @manager.govern("writer")
    def write() -> str:
        begun(manager).end(Ending(unbilled=True))
        return "from the cache"

    write()
    assert (writer(manager).consumed, writer(manager).held) == (0, 0)


# --- the end of a budget --------------------------------------------------------------------------


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


# --- confidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", [lambda result: result["sure"]["score"], "sure.score"], ids=["function", "field"]
)
def test_a_score_closes_the_gate(manager: BudgetManager, source: Callable[..., Any] | str) -> None:
    """A result that is good enough is the last one, until the score is reset."""
    manager.register_agent("judge", confidence_threshold=0.8)

    @manager.govern("judge", confidence_fn=source)
    def judge(score: float | None) -> dict[str, Any]:
        return {**REPLY, "sure": {"score": score}}

    judge(None)
    judge(0.7)
    judge(0.8)
    with pytest.raises(ConfidenceGateError) as caught:
        judge(0.1)
    assert (caught.value.score, caught.value.threshold) == (0.8, 0.8)
    manager.reset_confidence("judge")
    judge(0.1)
    assert manager.report()["judge"]["consumed"] == 4 * 42


@pytest.mark.parametrize("answer", [ValueError("no"), 1.5, float("nan"), "high"])
def test_a_score_that_fails_loses_nothing(
    manager: BudgetManager, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A `confidence_fn` that raises or returns nonsense is logged; result and charge stay."""

    def score(result: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ascore(result: object) -> Any:
        return score(result)

    @manager.govern("writer", confidence_fn=score)
    def write() -> dict[str, Any]:
        return REPLY

    @manager.govern("writer", confidence_fn=ascore)
    async def awrite() -> dict[str, Any]:
        return REPLY

    with caplog.at_level(logging.ERROR, "tbcontracts"):
        assert write() is REPLY
        assert asyncio.run(awrite()) is REPLY
    assert len(caplog.records) == 2
    assert writer(manager).consumed == 84
    assert writer(manager).confidence is None


def test_a_generator_is_scored_by_all_it_yielded(manager: BudgetManager) -> None:
    """The functions of a generator get the list of its pieces."""
    manager.register_agent("judge", confidence_threshold=0.8)

    @manager.govern("judge", confidence_fn=lambda pieces: len(pieces) / 10)
    def stream() -> Iterator[str]:
        yield from "abc"

    list(stream())
    assert manager.accounts()["judge"].confidence == 0.3
