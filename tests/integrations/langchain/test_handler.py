"""The callback handler under the real LangChain, over real HTTP: the server's log is the truth."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ToolCall
from tbcontracts_langchain import BudgetCallbackHandler, budget_callbacks

TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with the same text."""
    with FakeOpenAI(lambda request: Answer(text=TEXT)) as running:
        yield running


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        **settings,
    )


def governed(max_tokens: int = 100_000, **settings: Any) -> tuple[BudgetManager, Any]:
    """Return a manager whose agent "a" is acting, and a config with its callbacks."""
    manager = BudgetManager(**settings)
    manager.register_agent("a", max_tokens=max_tokens)
    return manager, {"callbacks": budget_callbacks(manager), "metadata": {"tbcontracts": A}}


A = {"agent": "a"}


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


def test_cached_answers_are_free(server: FakeOpenAI) -> None:
    """LangChain's own cache answers with full usage and cost 0: nothing was billed."""
    set_llm_cache(InMemoryCache())
    try:
        manager, config = governed()
        model = chat(server)
        model.invoke("hello", config)
        once = manager.accounts()["a"].consumed
        model.invoke("hello", config)
        assert len(server.log) == 1
        assert manager.accounts()["a"].consumed == once == server.billed_tokens
        assert manager.accounts()["a"].held == 0
    finally:
        set_llm_cache(None)


def test_two_handlers_of_one_manager_charge_once(server: FakeOpenAI) -> None:
    """On the model and in the config, as one object or two: one call, one charge."""
    manager, config = governed()
    model = chat(server, callbacks=budget_callbacks(manager))
    model.invoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens
    one, other = BudgetCallbackHandler(manager), BudgetCallbackHandler(manager)
    assert one == other
    assert one != BudgetCallbackHandler(manager.scope("elsewhere"))


def test_another_handlers_failure_at_the_start_does_not_leak(server: FakeOpenAI) -> None:
    """When another handler stops the call after ours held, the end of the chain frees the hold."""

    class Stops(BaseCallbackHandler):
        raise_error = True

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            raise LookupError("stopped by somebody else")

    manager, config = governed()
    model = chat(server)

    def ask(text: str) -> Any:
        return model.invoke(text)

    chain: Any = RunnableLambda(ask)
    config["callbacks"] = [*config["callbacks"], Stops()]
    with pytest.raises(LookupError):
        chain.invoke("hello", config)
    assert server.log == ()
    assert manager.accounts()["a"].held == 0


def test_retries_of_the_frameworks_do_not_repeat_a_refusal(server: FakeOpenAI) -> None:
    """The refusal is no plain Exception, and says that it is not retryable."""
    manager, config = governed(max_tokens=5)
    with pytest.raises(BudgetExceededError) as refused:
        chat(server).invoke("hello", config)
    assert isinstance(refused.value, RuntimeError)
    assert refused.value.is_retryable is False  # type: ignore[attr-defined]
    assert manager.accounts()["a"].denials == 1


def test_a_fallback_is_gated_by_its_own_hold(server: FakeOpenAI) -> None:
    """`with_fallbacks` may go on with a smaller call; it is held and charged like any other."""
    manager, config = governed(max_tokens=200)
    model = chat(server, max_tokens=4_000).with_fallbacks([chat(server, max_tokens=20)])
    model.invoke("hello", config)
    assert len(server.log) == 1
    assert manager.accounts()["a"].consumed == server.billed_tokens
    assert manager.accounts()["a"].denials == 1


def test_observe_mode_sends_everything_and_writes_it_down(server: FakeOpenAI) -> None:
    """In observe mode nothing is refused; what would have been is in the journal."""
    manager, config = governed(max_tokens=5, enforcement="observe")
    chat(server).invoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens
    assert "would_deny" in [entry.kind for entry in manager.journal()]


def test_strict_mode_needs_a_bound_and_keeps_within_it(server: FakeOpenAI) -> None:
    """Without an output cap a strict call is refused with the remedy; with one it is bounded."""
    manager, config = governed(enforcement="strict")
    with pytest.raises(BudgetExceededError, match="max_tokens on the model") as refused:
        chat(server).invoke("hello", config)
    assert refused.value.code == "unbounded"
    chat(server, max_tokens=30).invoke("hello", config)
    held = next(entry for entry in manager.journal() if entry.kind == "held")
    assert held.amount >= server.billed_tokens
    assert len(server.log) == 1


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


def test_an_outer_hold_is_not_doubled(server: FakeOpenAI) -> None:
    """One call, one hold: under a hold of the same manager the handler only reports what it saw."""
    manager, config = governed()
    from tbcontracts.endings import Ending
    from tbcontracts.sizing import CallShape
    from tbcontracts.tokens import RequestSize

    call = manager.begin_call("a", CallShape(RequestSize(50, 50), output_cap=2_000))
    with manager.calling(call):
        chat(server).invoke("hello", config)
    call.end(Ending())
    account = manager.accounts()["a"]
    assert account.consumed == server.billed_tokens
    assert account.unmeasured == 0
    assert [entry.kind for entry in manager.journal()].count("held") == 1


def test_a_call_larger_than_the_hold_around_it_makes_it_grow_or_is_not_sent(
    server: FakeOpenAI,
) -> None:
    """The hold around it was sized without knowing it."""
    from tbcontracts.endings import Ending
    from tbcontracts.sizing import CallShape
    from tbcontracts.tokens import RequestSize

    manager, config = governed(max_tokens=500)
    call = manager.begin_call("a", CallShape(RequestSize(10, 10), output_cap=100))
    with manager.calling(call):
        with pytest.raises(BudgetExceededError):
            chat(server, max_tokens=1_000).invoke("hello", config)
        assert server.log == ()
        chat(server, max_tokens=200).invoke("hello", config)
    call.end(Ending())
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (server.billed_tokens, 0)
    kinds = [entry.kind for entry in manager.journal()]
    assert (kinds.count("held"), kinds.count("denied")) == (2, 1)
