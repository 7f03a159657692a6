"""The callback handler over real HTTP: the books equal the log, and what is refused is not sent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from tests.integrations.langchain.handler.conftest import TEXT, A, chat, governed

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ToolCall
from tbcontracts_langchain import BudgetCallbackHandler, budget_callbacks


def test_books_equal_the_log(server: FakeOpenAI) -> None:
    """invoke, stream, batch and generate charge what the provider bills, to the token."""
    manager, config = governed()
    model = chat(server, stream_usage=True)
    model.invoke("one", config)
    list(model.stream("two", config))
    model.batch(["three", "four", "five"], config)
    model.generate(
        [[HumanMessage("six")], [HumanMessage("seven")]],
        callbacks=config["callbacks"],
        metadata=config["metadata"],
    )
    account = manager.accounts()["a"]
    assert len(server.log) == 7
    assert account.consumed == server.billed_tokens
    assert (account.held, account.unmeasured) == (0, 0)


@pytest.mark.anyio
async def test_books_equal_the_log_awaited() -> None:
    """The awaited twins charge the same."""
    with FakeOpenAI() as server:
        manager, config = governed()
        model = chat(server, stream_usage=True)
        await model.ainvoke("one", config)
        _ = [chunk async for chunk in model.astream("two", config)]
        await model.abatch(["three", "four"], config)
        _ = [event async for event in model.astream_events("five", config, version="v2")]
        assert len(server.log) == 5
        assert manager.accounts()["a"].consumed == server.billed_tokens
        assert manager.accounts()["a"].held == 0


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_refused_call_is_never_sent(server: FakeOpenAI, way: str) -> None:
    """Whichever way a call is made, a refusal leaves the provider's log empty."""
    manager, config = governed(max_tokens=5)
    model = chat(server)

    async def collect() -> None:
        _ = [chunk async for chunk in model.astream("hello", config)]

    ways: dict[str, Callable[[], object]] = {
        "invoke": lambda: model.invoke("hello", config),
        "ainvoke": lambda: asyncio.run(model.ainvoke("hello", config)),
        "stream": lambda: list(model.stream("hello", config)),
        "astream": lambda: asyncio.run(collect()),
    }
    with pytest.raises(BudgetExceededError, match="'a' asked for"):
        ways[way]()
    assert server.log == ()
    assert manager.accounts()["a"].denials == 1


def test_naive_handlers_let_the_call_through(server: FakeOpenAI) -> None:
    """Without `raise_error`, or as an async handler, a refusal is only logged: the call is sent."""

    class RefusalError(RuntimeError):
        pass

    class WithoutRaiseError(BaseCallbackHandler):
        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            raise RefusalError

    class Asynchronous(AsyncCallbackHandler):
        raise_error = True

        async def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            raise RefusalError

    for naive in (WithoutRaiseError(), Asynchronous()):
        chat(server).invoke("hello", {"callbacks": [naive]})
    assert len(server.log) == 2
    assert BudgetCallbackHandler.raise_error
    assert BudgetCallbackHandler.run_inline


def test_usage_is_charged_once_for_several_choices() -> None:
    """With n=2 LangChain repeats the usage on each generation; it is charged once."""
    with FakeOpenAI(lambda request: TEXT) as server:
        manager, config = governed()
        chat(server, n=2).generate(
            [[HumanMessage("hello")]],
            callbacks=config["callbacks"],
            metadata=config["metadata"],
        )
        assert manager.accounts()["a"].consumed == server.billed_tokens


def test_exactly_two_of_forty_parallel_calls_are_sent() -> None:
    """Input and cap make 2,000 each on a budget of 5,000, all started before the first answer."""
    release = threading.Event()

    def answer(request: Any) -> Answer:
        return Answer(text="x", input_tokens=1_000, fill=True, hold=release)

    with FakeOpenAI(answer) as server:
        manager = BudgetManager()
        manager.register_agent("a", max_tokens=5_000)
        prompt = "word " * 994
        model = chat(server, max_tokens=1_000)
        size = sizes_of(model, prompt)
        assert 1_900 <= size <= 2_100
        start = threading.Barrier(40)
        refused: list[BudgetExceededError] = []

        def call() -> None:
            start.wait()
            config: Any = {"callbacks": budget_callbacks(manager), "metadata": {"tbcontracts": A}}
            try:
                model.invoke(prompt, config)
            except BudgetExceededError as error:
                refused.append(error)
                if len(refused) == 38:
                    release.set()  # only now may the provider answer the two that were sent

        with ThreadPoolExecutor(40) as threads:
            for started in [threads.submit(call) for _ in range(40)]:
                started.result()
        assert len(refused) == 38
        assert len(server.log) == 2
        assert manager.accounts()["a"].consumed == server.billed_tokens == 4_000


def sizes_of(model: ChatOpenAI, prompt: str) -> int:
    """Return what one such call would hold."""
    _, config = governed(1)
    with pytest.raises(BudgetExceededError) as refused:
        model.invoke(prompt, config)
    return refused.value.requested


def test_tool_calls_are_sized_and_charged(server: FakeOpenAI) -> None:
    """Tool definitions count as input; a tool-call answer is charged like any other."""

    @tool
    def look_up(what: str) -> str:
        """Look something up in the company's very long and detailed handbook."""
        return what

    call = ToolCall(name="look_up", arguments={"what": "tokens"})
    with FakeOpenAI(lambda request: Answer(tool_calls=[call])) as tools:
        manager, config = governed()
        chat(tools).bind_tools([look_up]).invoke("hello", config)
        held = next(entry for entry in manager.journal() if entry.kind == "held")
        assert manager.accounts()["a"].consumed == tools.billed_tokens
        assert held.amount > 1_024 + 20


def test_text_models_are_governed_too() -> None:
    """Legacy completion models are held by `on_llm_start` and charged by count."""
    manager, config = governed()
    FakeListLLM(responses=["a short answer"]).invoke("hello", config)
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured > 0
    assert account.held == 0
