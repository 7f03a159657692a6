"""Gate and guard on a store behind a network: one hold for each call, and the loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager, StoreError, abandoned
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts.testing.slow_store import SlowStore
from tbcontracts_langchain import BudgetCallbackHandler, budget_callbacks

# LangChain makes the coroutines of all inline handlers before it awaits the first. Where that one
# raises, or is cancelled, the others are forgotten, and Python says so whenever it finds them.
pytestmark = [
    pytest.mark.usefixtures("forgotten_coroutines"),
    pytest.mark.filterwarnings("ignore:coroutine 'ahandle_event':RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:.*coroutine object ahandle_event:pytest.PytestUnraisableExceptionWarning"
    ),
    # LangChain keeps its HTTP clients longer than a test keeps its event loop.
    pytest.mark.filterwarnings(
        "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
    ),
]
TEXT = "An answer of a few words, as models give them."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with the same text."""
    with FakeOpenAI(lambda request: Answer(text=TEXT)) as running:
        yield running


@pytest.fixture
def store() -> Iterator[SlowStore]:
    """Return a store whose answers can be held back."""
    slow = SlowStore()
    yield slow
    slow.let_go()


def chat(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return ChatOpenAI(
        base_url=server.base_url,
        api_key=SecretStr("test"),
        model="gpt-4o-mini",
        max_retries=0,
        stream_usage=True,
        **settings,
    )


def governed(store: SlowStore, max_tokens: int = 100_000, **settings: Any) -> tuple[Any, Any]:
    """Return a manager with an agent and its books open, and a config with its callbacks."""
    manager = BudgetManager(store=store, **settings)
    manager.register_agent("a", max_tokens=max_tokens)
    manager.report()
    metadata = {"tbcontracts": {"agent": "a"}}
    return manager, {"callbacks": budget_callbacks(manager), "metadata": metadata}


async def quiet() -> None:
    """Wait until all that was begun in the background is done."""
    while running := set(abandoned._running):
        await asyncio.wait(running)


def kinds(manager: BudgetManager) -> list[str]:
    """Return what the journal says that happened."""
    return [str(entry.kind) for entry in manager.journal()][1:]


@contextmanager
def answers_when_asked() -> Iterator[tuple[FakeOpenAI, threading.Event]]:
    """Run a provider that answers when an event is set."""
    answer = threading.Event()
    with FakeOpenAI(lambda request: Answer(text=TEXT, hold=answer)) as server:
        yield server, answer


def graph_of(model: Any) -> Any:
    """Return a graph of one node that works awaited and not."""
    from langgraph.graph import START, MessagesState, StateGraph

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    from langgraph._internal._runnable import RunnableCallable

    builder = StateGraph(MessagesState)
    builder.add_node("a", RunnableCallable(node, anode))
    builder.add_edge(START, "a")
    return builder.compile()


ASK = {"messages": [HumanMessage("hello")]}


def test_stores_in_the_process_need_one_handler(store: SlowStore) -> None:
    """The pair is only for stores behind a network."""
    manager, config = governed(store)
    assert len(config["callbacks"]) == 2
    assert len(budget_callbacks(BudgetManager())) == 1
    assert budget_callbacks(manager) == budget_callbacks(manager)


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "generate", "graph"])
def test_calls_that_are_not_awaited_are_held_once(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """LangChain drops an awaited handler's refusals there: the guard holds, the gate sees it."""
    manager, config = governed(store)
    model = chat(server)
    ways: dict[str, Any] = {
        "invoke": lambda: model.invoke("hello", config),
        "stream": lambda: list(model.stream("hello", config)),
        "batch": lambda: model.batch(["hello", "there"], config),
        "generate": lambda: model.generate(
            [[HumanMessage("hello")], [HumanMessage("there")]],
            **config,
        ),
        "graph": lambda: graph_of(model).invoke(ASK, config),
    }
    ways[way]()
    assert sorted(kinds(manager)) == ["held"] * len(server.log) + ["settled"] * len(server.log)
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "way", ["ainvoke", "astream", "abatch", "agenerate", "astream_events", "graph", "sync in loop"]
)
async def test_awaited_calls_are_held_once_without_blocking(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """The gate holds and settles, and the guard has nothing to do."""
    manager, config = governed(store)
    model = chat(server)
    store.blocked = 0
    if way == "ainvoke":
        await model.ainvoke("hello", config)
    elif way == "astream":
        _ = [chunk async for chunk in model.astream("hello", config)]
    elif way == "abatch":
        await model.abatch(["hello", "there"], config)
    elif way == "agenerate":
        await model.agenerate([[HumanMessage("hello")], [HumanMessage("there")]], **config)
    elif way == "astream_events":
        settled = threading.Event()

        def hear(scope: str, entry: Any) -> None:
            if entry.kind == "settled":
                settled.set()

        manager.add_listener(hear)
        _ = [event async for event in model.astream_events("hello", config, version="v2")]
        await asyncio.to_thread(settled.wait, 30)  # LangChain tells of the end a little later
    elif way == "graph":
        await graph_of(model).ainvoke(ASK, config)
    else:
        model.invoke("hello", config)  # blocks this loop by itself
    assert sorted(kinds(manager)) == ["held"] * len(server.log) + ["settled"] * len(server.log)
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)
    assert (store.blocked > 0) == (way == "sync in loop")


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["answer", "failure"])
async def test_the_loop_goes_on_while_the_store_is_slow(
    server: FakeOpenAI, store: SlowStore, end: str
) -> None:
    """Another task advances while the gate waits for a hold, and while it waits for an end."""
    manager, config = governed(store)
    model = chat(server) if end == "answer" else chat(server, timeout=0.0001)
    store.blocked = 0
    ticks = asyncio.Semaphore(0)

    async def tick() -> None:
        while True:
            ticks.release()
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(tick())
    store.hold_back()
    call = asyncio.ensure_future(model.ainvoke("hello", config))
    for _ in ("the hold", "the end"):
        await store.waits.wait()
        for _ in range(1_000):
            await ticks.acquire()
        assert not call.done()
        store.waits.clear()
        store.let_go()
        store.hold_back()
    store.let_go()
    await asyncio.gather(call, return_exceptions=True)
    ticker.cancel()
    assert store.blocked == 0
    assert manager.accounts()["a"].held == 0
    if end == "answer":
        assert manager.accounts()["a"].consumed == server.billed_tokens


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "sync in loop"])
def test_a_refused_call_is_never_sent_and_is_refused_once(
    server: FakeOpenAI, store: SlowStore, way: str
) -> None:
    """After one of them refused, the other does not ask again."""
    manager, config = governed(store, max_tokens=5)
    model = chat(server)

    async def ask() -> None:
        if way == "ainvoke":
            await model.ainvoke("hello", config)
        elif way == "astream":
            _ = [chunk async for chunk in model.astream("hello", config)]
        else:
            model.invoke("hello", config)

    def run() -> None:
        if way == "invoke":
            model.invoke("hello", config)
        elif way == "stream":
            list(model.stream("hello", config))
        else:
            asyncio.run(ask())

    with pytest.raises(BudgetExceededError, match="'a' asked for"):
        run()
    assert server.log == ()
    account = manager.accounts()["a"]
    assert (account.denials, account.held) == (1, 0)


@pytest.mark.anyio
async def test_a_gate_that_is_cancelled_while_it_waits_leaves_no_hold(
    server: FakeOpenAI, store: SlowStore
) -> None:
    """The hold took effect, the answer came to nobody: it is given back, and nothing is sent."""
    manager, config = governed(store)
    store.hold_back()
    call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
    await store.waits.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    store.let_go()
    await quiet()
    assert kinds(manager) == ["held", "voided"]
    assert server.log == ()


@pytest.mark.anyio
async def test_a_settlement_is_carried_through_when_its_task_is_cancelled(
    store: SlowStore,
) -> None:
    """The answer was billed; whoever waited for it has gone; the books still say it."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):
        call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
        await asyncio.to_thread(server.wait_for_requests, 1)
        store.hold_back()
        answer.set()
        await store.waits.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        store.let_go()
        await quiet()
        account = manager.accounts()["a"]
        assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


def test_a_settlement_is_carried_through_when_the_loop_closes(store: SlowStore) -> None:
    """`asyncio.run` cancels all that is under way at its end; the usage is booked before."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):

        async def main() -> None:
            call = asyncio.ensure_future(chat(server).ainvoke("hello", config))
            await asyncio.to_thread(server.wait_for_requests, 1)
            store.hold_back()
            answer.set()
            await store.waits.wait()
            call.cancel()
            store._free.set()  # only what asks from now on is answered

        asyncio.run(main())
        account = manager.accounts()["a"]
        assert (account.consumed, account.unmeasured, account.held) == (server.billed_tokens, 0, 0)


@pytest.mark.anyio
async def test_a_cancelled_call_below_a_chain_is_ended_without_blocking(store: SlowStore) -> None:
    """The chain's end is heard by the guard, in the loop: it books in the background."""
    manager, config = governed(store)
    with answers_when_asked() as (server, answer):
        model = chat(server)

        async def node(text: str, config: Any) -> Any:
            return await model.ainvoke(text, config)

        chain: Any = RunnableLambda(node)
        call = asyncio.ensure_future(chain.ainvoke("hello", config))
        await asyncio.to_thread(server.wait_for_requests, 1)
        store.blocked = 0
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await quiet()
        answer.set()
        account = manager.accounts()["a"]
        assert account.consumed == account.unmeasured > 0
        assert (account.held, store.blocked) == (0, 0)


class Stops(BaseCallbackHandler):
    """Somebody else's handler, which stops calls at their start."""

    raise_error = True
    run_inline = True

    def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Stop the call."""
        raise LookupError("stopped by somebody else")


@pytest.mark.anyio
@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_handler_between_gate_and_guard_may_raise(
    server: FakeOpenAI, store: SlowStore, place: int, awaited: bool
) -> None:
    """Wherever somebody else stops the call: nothing was sent, so nothing is charged."""
    manager, config = governed(store)
    config["callbacks"].insert(place, Stops())
    model = chat(server)

    def node(text: str, config: Any) -> Any:
        return model.invoke(text, config)

    async def anode(text: str, config: Any) -> Any:
        return await model.ainvoke(text, config)

    chain: Any = RunnableLambda(node, anode)
    with pytest.raises(LookupError):
        await (
            chain.ainvoke("hello", config)
            if awaited
            else asyncio.to_thread(chain.invoke, "hello", config)
        )
    await quiet()
    account = manager.accounts()["a"]
    assert (account.held, account.consumed) == (0, 0)
    assert server.log == ()


class Watches(AsyncCallbackHandler):
    """Somebody else's handler that awaits something of its own between gate and guard."""

    run_inline = True

    async def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
        """Let others run."""
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_one_run_id_for_two_calls_at_once(server: FakeOpenAI, store: SlowStore) -> None:
    """A caller may give one id to two calls that overlap: each is held and charged."""
    from uuid import uuid4

    manager, config = governed(store)
    config["callbacks"].insert(1, Watches())
    config["run_id"] = uuid4()
    model = chat(server)
    await asyncio.gather(model.ainvoke("hello", config), model.ainvoke("hello there", config))
    assert sorted(kinds(manager)) == ["held", "held", "settled", "settled"]
    account = manager.accounts()["a"]
    assert (account.consumed, account.held) == (server.billed_tokens, 0)


@pytest.mark.anyio
async def test_a_lone_handler_in_a_loop_warns_once(server: FakeOpenAI, store: SlowStore) -> None:
    """It blocks the loop while the store answers; the text says what does not."""
    _, config = governed(store)
    manager = BudgetManager(store=store)
    manager.register_agent("a", max_tokens=100_000)
    lone: Any = {**config, "callbacks": [BudgetCallbackHandler(manager)]}
    with pytest.warns(UserWarning, match="callbacks=budget_callbacks"):
        await chat(server).ainvoke("hello", lone)
    await chat(server).ainvoke("hello", lone)  # a second warning would be an error
    await chat(server).ainvoke("hello", config)
    assert manager.accounts()["a"].consumed == server.billed_tokens


class Down(SlowStore):
    """A store that stops answering."""

    down = False

    def apply(self, scope: str, command: Any) -> Any:
        """Answer, or not."""
        if self.down:
            raise StoreError("The store is down.")
        return super().apply(scope, command)

    async def aapply(self, scope: str, command: Any) -> Any:
        """Answer, or not."""
        return self.apply(scope, command) if self.down else await super().aapply(scope, command)


@pytest.mark.parametrize("enforcement", ["expected", "observe"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_store_that_does_not_answer(server: FakeOpenAI, way: str, enforcement: str) -> None:
    """No call goes out that was not allowed; in observe mode it goes out, and is asked for once."""
    store = Down()
    manager, config = governed(store, enforcement=enforcement)
    store.down = True
    model = chat(server)

    def ask() -> None:
        if way == "invoke":
            model.invoke("hello", config)
        else:
            asyncio.run(model.ainvoke("hello", config))

    if enforcement == "observe":
        ask()
        assert len(server.log) == 1
        store.down = False
        assert manager.flush()
        assert manager.accounts()["a"].consumed == server.billed_tokens
    else:
        with pytest.raises(StoreError, match="is down"):
            ask()
        assert server.log == ()
