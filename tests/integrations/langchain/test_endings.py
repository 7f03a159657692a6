"""Every way a model call can end under LangChain: what it is charged, and that no hold stays."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import langchain_core.exceptions
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.runs import stopped_at_start

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)
TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with the same text."""
    with FakeOpenAI(lambda request: Answer(text=TEXT)) as running:
        yield running


def settings(server: FakeOpenAI, **more: Any) -> dict[str, Any]:
    """Return what makes a client ask the local provider."""
    given = {"base_url": server.base_url, "api_key": SecretStr("test"), "max_retries": 0}
    return {**given, "model": "gpt-4o-mini", **more}


def chat(server: FakeOpenAI, **more: Any) -> ChatOpenAI:
    """Return a real chat model."""
    return ChatOpenAI(**settings(server, **more))


def governed(max_tokens: int = 100_000, **more: Any) -> tuple[BudgetManager, Any]:
    """Return a manager whose agent "a" is acting, and a config with its callbacks."""
    manager = BudgetManager(**more)
    manager.register_agent("a", max_tokens=max_tokens)
    return manager, {
        "callbacks": budget_callbacks(manager),
        "metadata": {"tbcontracts": {"agent": "a"}},
    }


def is_as_billed(manager: BudgetManager, server: FakeOpenAI) -> bool:
    """Whether the books say what the provider's log says, all of it measured, and nothing open."""
    account = manager.accounts()["a"]
    return (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


def kinds(manager: BudgetManager) -> list[str]:
    """Return what the journal says that happened."""
    return [str(entry.kind) for entry in manager.journal()][1:]


def ask_all(model: Any, config: Any) -> Any:
    """Ask three prompts in one `generate`."""
    prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]
    return model.generate(prompts, callbacks=config["callbacks"], metadata=config["metadata"])


# --- several prompts at once ----------------------------------------------------------------------


def test_of_a_generate_that_fails_what_was_sent_is_charged() -> None:
    """The answered prompt's usage is never told: its hold is charged. The third is not sent."""
    with FakeOpenAI([Answer(text=TEXT), Fault(status=500), Answer(text=TEXT)]) as server:
        manager, config = governed()
        with pytest.raises(Exception, match="scripted provider"):
            ask_all(chat(server, max_tokens=50), config)
        assert len(server.log) == 2
        account = manager.accounts()["a"]
        first = next(entry for entry in manager.journal() if entry.kind == "held")
        assert account.consumed == account.unmeasured == first.amount
        assert account.held == 0
        assert kinds(manager).count("voided") == 2


@pytest.mark.anyio
async def test_of_an_awaited_generate_that_fails_each_prompt_is_told() -> None:
    """All are sent, and each end is reported, the failure first."""

    def script(request: ScriptedRequest) -> Answer | Fault:
        return Fault(status=500) if request.last_text == "two" else Answer(text=TEXT)

    with FakeOpenAI(script) as server:
        manager, config = governed()
        prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]
        with pytest.raises(Exception, match="scripted provider"):
            await chat(server).agenerate(prompts, **config)
        assert len(server.log) == 3
        assert is_as_billed(manager, server)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.usefixtures("forgotten_coroutines")
@pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning")
@pytest.mark.filterwarnings(
    "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
)
def test_when_one_prompt_is_refused_none_is_sent(server: FakeOpenAI, awaited: bool) -> None:
    """The holds of those that started before it are given back, at the top level too."""
    manager, config = governed(max_tokens=150)
    model = chat(server, max_tokens=60)
    prompts: Any = [[HumanMessage(text)] for text in ("one", "two", "three")]

    def ask() -> object:
        return (
            asyncio.run(model.agenerate(prompts, **config)) if awaited else ask_all(model, config)
        )

    with pytest.raises(BudgetExceededError):
        ask()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.denials) == (0, 0, 1)
    assert server.log == ()
    model.generate(prompts[:2], callbacks=config["callbacks"], metadata=config["metadata"])
    assert is_as_billed(manager, server)


@pytest.mark.parametrize("prompts", [["one"], ["one", "two", "three"]])
def test_prompts_of_a_text_model_are_charged_once(server: FakeOpenAI, prompts: list[str]) -> None:
    """Their usage is reported for all of them together, on the first one's reply."""
    manager, config = governed()
    metadata: Any = [config["metadata"]] * len(prompts)
    callbacks: Any = [config["callbacks"]] * len(prompts)
    OpenAI(**settings(server)).generate(prompts, callbacks=callbacks, metadata=metadata)
    assert len(server.log) == 1
    assert is_as_billed(manager, server)


def test_a_text_model_that_reports_nothing_is_charged_for_each_prompt() -> None:
    """Only where the first one's reply has the usage of all of them are the others free."""
    manager, config = governed()
    FakeListLLM(responses=[TEXT]).generate(
        ["one", "two"], callbacks=[config["callbacks"]] * 2, metadata=[config["metadata"]] * 2
    )
    account = manager.accounts()["a"]
    each = manager.count_text("one") + 4 + manager.count_text(TEXT)
    assert account.consumed == account.unmeasured == 2 * each
    assert account.held == 0


# --- nothing was sent -----------------------------------------------------------------------------


class Stops(BaseCallbackHandler):
    """Somebody else's handler, which stops calls at their start."""

    raise_error = True
    run_inline = True

    def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Stop the call."""
        raise LookupError("stopped by somebody else")


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "generate", "wrapped"])
async def test_what_another_handler_stops_costs_nothing(server: FakeOpenAI, way: str) -> None:
    """LangChain tells no end; the error that leaves the chain tells that the call was not sent."""
    manager, config = governed()
    config["callbacks"].append(Stops())
    model = chat(server)

    def node(text: str, config: Any) -> Any:
        if way == "generate":
            return ask_all(model, {"metadata": {}, "callbacks": config["callbacks"]})
        try:
            return model.invoke(text, config)
        except LookupError as error:
            if way == "wrapped":
                raise KeyError("something else") from error
            raise

    async def anode(text: str, config: Any) -> Any:
        return await model.ainvoke(text, config)

    chain: Any = RunnableLambda(node, anode)
    with pytest.raises(LookupError):
        await (
            chain.ainvoke("hello", config)
            if way == "ainvoke"
            else asyncio.to_thread(chain.invoke, "hello", config)
        )
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (0, 0)
    assert server.log == ()


def test_a_bare_call_that_another_handler_stops_is_left_to_its_limit(server: FakeOpenAI) -> None:
    """With no chain above it nobody is told anything: the hold's own limit ends it."""
    now = [1_000.0]
    manager, config = governed(clock=lambda: now[0])
    config["callbacks"].append(Stops())
    with pytest.raises(LookupError):
        chat(server).invoke("hello", config)
    assert manager.accounts()["a"].held > 0
    now[0] += 3_600
    manager.reserve("a", 1).void()
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.expired_holds) == (0, 0, 1)


def test_only_a_start_proves_that_nothing_was_sent() -> None:
    """Errors of other hooks, and errors that circle, prove nothing."""
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert stopped_at_start(one) == stopped_at_start(None) == frozenset()


def test_an_interrupt_inside_a_start_hook_costs_nothing(server: FakeOpenAI) -> None:
    """A handler may pause the graph at a call's start; the call is made when it goes on."""

    class Asks(BaseCallbackHandler):
        raise_error = True
        run_inline = True

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            """Pause until somebody agrees."""
            interrupt("go on?")

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat(server).invoke(state["messages"])]}

    from langgraph.types import Command

    builder = StateGraph(MessagesState)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    app = builder.compile(checkpointer=InMemorySaver())
    manager, config = governed()
    config["callbacks"].append(Asks())
    config["configurable"] = {"thread_id": "t"}
    app.invoke({"messages": [HumanMessage("hello")]}, config)
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (0, 0)
    app.invoke(Command(resume="yes"), config)
    assert len(server.log) == 1
    assert is_as_billed(manager, server)


def test_an_interrupt_after_a_call_is_no_failure(server: FakeOpenAI) -> None:
    """The call was answered and is charged; a resumed node makes it again, and it costs again."""

    def node(state: MessagesState) -> dict[str, Any]:
        answer = chat(server).invoke(state["messages"])
        interrupt("good?")
        return {"messages": [answer]}

    from langgraph.types import Command

    builder = StateGraph(MessagesState)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    app = builder.compile(checkpointer=InMemorySaver())
    manager, config = governed()
    config["configurable"] = {"thread_id": "t"}
    app.invoke({"messages": [HumanMessage("hello")]}, config)
    assert is_as_billed(manager, server)
    app.invoke(Command(resume="yes"), config)
    assert len(server.log) == 2
    assert is_as_billed(manager, server)


# --- caches ---------------------------------------------------------------------------------------


@pytest.fixture
def cache() -> Iterator[None]:
    """Put LangChain's own cache in place."""
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("reported", [True, False])
def test_cached_answers_are_free_with_usage_and_without(reported: bool) -> None:
    """A hit repeats the whole usage, or has only a cost of 0; nothing was sent."""
    with FakeOpenAI(lambda request: Answer(text=TEXT, report_usage=reported)) as server:
        manager, config = governed()
        chat(server).invoke("hello", config)
        before = manager.accounts()["a"]
        chat(server).invoke("hello", config)
        after = manager.accounts()["a"]
        assert len(server.log) == 1
        assert (after.consumed, after.held) == (before.consumed, 0)


@pytest.mark.usefixtures("cache")
def test_cached_texts_are_free(server: FakeOpenAI) -> None:
    """A text model's hit is not even told."""
    manager, config = governed()
    model = OpenAI(**settings(server))
    model.invoke("hello", config)
    model.invoke("hello", config)
    assert len(server.log) == 1
    assert is_as_billed(manager, server)


# --- streams --------------------------------------------------------------------------------------

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


# --- refusals that somebody swallows --------------------------------------------------------------


def test_a_refusal_that_a_tool_node_hides_is_on_the_books(server: FakeOpenAI) -> None:
    """handle_tool_errors=True makes a message of it; the denial stands in the journal."""
    manager, config = governed(max_tokens=5)

    call = {"name": "ask", "args": {"question": "why"}, "id": "1", "type": "tool_call"}
    builder = StateGraph(MessagesState)

    @tool("ask")
    def asks(question: str) -> str:
        """Ask a model."""
        return str(chat(server).invoke(question).content)

    builder.add_node("tools", ToolNode([asks], handle_tool_errors=True))
    builder.add_edge(START, "tools")
    said = builder.compile().invoke(
        {"messages": [AIMessage("", tool_calls=[call])]},
        config,
    )
    assert "asked for" in said["messages"][-1].content
    assert manager.accounts()["a"].denials == 1
    assert server.log == ()


def test_retries_do_not_repeat_a_refusal(server: FakeOpenAI) -> None:
    """The model retry middleware lets it out at once; `with_retry` asks as often as it was told."""
    manager, config = governed(max_tokens=5)
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0)
    agent = create_agent(chat(server), [], middleware=[retry])
    if hasattr(langchain_core.exceptions, "ModelError"):
        with pytest.raises(BudgetExceededError):
            agent.invoke({"messages": [HumanMessage("hello")]}, config)
        assert manager.accounts()["a"].denials == 1
    else:  # before 1.7 nothing says that an error is final: it is hidden, and on the books
        agent.invoke({"messages": [HumanMessage("hello")]}, config)
        assert manager.accounts()["a"].denials == 3
    before = manager.accounts()["a"].denials
    again: Any = chat(server).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    with pytest.raises(BudgetExceededError):
        again.invoke("hello", config)
    assert manager.accounts()["a"].denials == before + 3
    assert server.log == ()


def test_retries_of_failed_calls_are_charged_for_what_was_billed() -> None:
    """Each attempt that LangChain makes has a hold of its own; rejected ones are free."""
    with FakeOpenAI([Fault(status=500), Answer(text=TEXT)]) as server:
        manager, config = governed()
        again: Any = chat(server).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        again.invoke("hello", config)
        assert len(server.log) == 2
        assert is_as_billed(manager, server)


def test_retries_of_the_client_library_are_not_seen() -> None:
    """They happen below every hook: several requests, one call; what fails is not billed here."""
    with FakeOpenAI([Fault(status=500), Answer(text=TEXT)]) as server:
        manager, config = governed()
        chat(server, max_retries=1).invoke("hello", config)
        assert len(server.log) == 2
        assert kinds(manager) == ["held", "settled"]
        assert is_as_billed(manager, server)


# --- ids, retrievers, and answers that cannot be read ---------------------------------------------


def test_a_run_id_that_is_used_again_is_another_call(server: FakeOpenAI) -> None:
    """A caller may choose the same id twice."""
    manager, config = governed()
    config["run_id"] = uuid4()
    chat(server).invoke("hello", config)
    chat(server).invoke("hello again", config)
    assert len(server.log) == 2
    assert is_as_billed(manager, server)


def test_two_calls_of_one_run_id_at_once(server: FakeOpenAI) -> None:
    """Even while the first is open, the second is held and charged."""
    both = threading.Barrier(2)

    def answer(request: ScriptedRequest) -> Answer:
        both.wait(20)
        return Answer(text=TEXT)

    with FakeOpenAI(answer) as two:
        manager, config = governed()
        config["run_id"] = uuid4()
        threads = [
            threading.Thread(target=chat(two).invoke, args=(text, config)) for text in ("a", "b")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert is_as_billed(manager, two)
        assert kinds(manager).count("held") == 2


def test_models_that_a_retriever_asks_are_charged(server: FakeOpenAI) -> None:
    """A retriever is a step of the run like any other."""

    class Rewrites(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            answer = chat(server).invoke(query, {"callbacks": run_manager.get_child()})
            return [Document(str(answer.content))]

    manager, config = governed()
    Rewrites().invoke("hello", config)
    assert is_as_billed(manager, server)
    handler: Any = config["callbacks"][0]
    assert handler._tree._names == {}


def test_a_reply_that_cannot_be_read_is_charged_by_estimate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a third party's model returns, the hold ends and the answer reaches its caller."""

    class Odd(ChatOpenAI):
        def _generate(self, *arguments: Any, **kwargs: Any) -> ChatResult:
            message = AIMessage("fine")
            object.__setattr__(message, "usage_metadata", {"input_tokens": "many"})
            return ChatResult(generations=[ChatGeneration(message=message)])

    manager, config = governed()
    answer = Odd(api_key=SecretStr("x"), model="m").invoke("hello", config)
    assert answer.content == "fine"
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured > 0
    assert account.held == 0
    handler: Any = config["callbacks"][0]
    with caplog.at_level(logging.ERROR, "tbcontracts"):
        handler.on_llm_end(LLMResult(generations=[]), run_id=uuid4())  # of a call nobody knows
    assert caplog.records == []
