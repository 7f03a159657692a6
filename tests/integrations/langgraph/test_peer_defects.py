"""What the published package (0.3.0) got wrong in LangGraph, each as a test of what is right here.

Real graphs, a real client, a local provider whose log is the truth. The numbers in the docstrings
were measured there; the page on coming from that package lists them.
"""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.adapters import govern_node
from tbcontracts.testing import Answer, FakeOpenAI
from tbcontracts_langgraph import budget, govern_graph

BILLED = 4_000
"""What each call here takes: 1,000 in, 3,000 out."""


class Notes(TypedDict):
    """A state that parallel nodes may write to at once."""

    notes: Annotated[list[str], operator.add]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that bills 4,000 tokens for each call."""
    with FakeOpenAI(lambda _: Answer(text="x", input_tokens=1_000, output_tokens=3_000)) as running:
        yield running


@pytest.fixture
def model(server: FakeOpenAI) -> ChatOpenAI:
    """Return a real client for the local provider."""
    return client(server)


def client(server: FakeOpenAI, **settings: Any) -> ChatOpenAI:
    """Return a real client for a local provider."""
    key = SecretStr("test")
    return ChatOpenAI(
        base_url=server.base_url, api_key=key, model="gpt-4o-mini", max_retries=0, **settings
    )


def one_node(node: Any, state: Any = MessagesState, *, max_tokens: int, **more: Any) -> Any:
    """Return a builder with one annotated node called "a"."""
    builder = StateGraph(state)
    builder.add_node("a", node, metadata=budget(max_tokens=max_tokens), **more)
    builder.add_edge(START, "a")
    return builder


def run(builder: Any, manager: BudgetManager, state: Any = None) -> Any:
    """Run a graph under contracts."""
    return govern_graph(builder, manager).invoke(state or {"messages": [HumanMessage("go")]})


def test_L1_messages_are_charged_by_their_usage(server: FakeOpenAI, model: ChatOpenAI) -> None:
    """There: 9,000 tokens on a contract of 10 were charged 0, because a message is no text."""

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    manager = BudgetManager()
    run(one_node(node, max_tokens=10_000), manager)
    account = manager.accounts()["a"]
    assert account.consumed == server.billed_tokens == BILLED
    assert account.unmeasured == 0
    with pytest.raises(BudgetExceededError):
        run(one_node(node, max_tokens=10), BudgetManager())
    assert len(server.log) == 1


def test_L2_parallel_nodes_need_no_key_in_the_state(server: FakeOpenAI, model: ChatOpenAI) -> None:
    """There: the documented usage key in the state was an InvalidUpdateError; both were charged."""
    builder = StateGraph(Notes)
    for name in ("left", "right"):

        def node(state: Notes, name: str = name) -> dict[str, list[str]]:
            model.invoke([("system", name), ("user", "go")])
            return {"notes": [name]}

        builder.add_node(name, node, metadata=budget(max_tokens=10_000))
        builder.add_edge(START, name)
    manager = BudgetManager()
    result = run(builder, manager, {"notes": []})
    assert sorted(result["notes"]) == ["left", "right"]
    consumed = {name: account.consumed for name, account in manager.accounts().items()}
    assert consumed == server.billed_by(lambda request: request.system_text)


@pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")
def test_L3_awaited_nodes_are_nodes(server: FakeOpenAI, model: ChatOpenAI) -> None:
    """There: an async node returned its coroutine, an InvalidUpdateError; 1 token was charged."""

    async def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    manager = BudgetManager()
    app = govern_graph(one_node(node, max_tokens=10_000), manager)
    result = asyncio.run(app.ainvoke({"messages": [HumanMessage("go")]}))
    assert isinstance(result["messages"][-1], AIMessage)
    assert manager.accounts()["a"].consumed == server.billed_tokens == BILLED


def test_L3_a_governed_coroutine_is_a_node() -> None:
    """The same by `manager.govern`, where no callback sees the call."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=10_000)

    @manager.govern("a", usage_fn=lambda update: update["messages"][-1].usage_metadata)
    async def node(state: MessagesState) -> dict[str, Any]:
        usage = {"input_tokens": 1_000, "output_tokens": 3_000, "total_tokens": BILLED}
        return {"messages": [AIMessage("x", usage_metadata=usage)]}

    builder = StateGraph(MessagesState)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    result = asyncio.run(builder.compile().ainvoke({"messages": [HumanMessage("go")]}))
    assert result["messages"][-1].content == "x"
    assert manager.accounts()["a"].consumed == BILLED


def test_L4_a_node_may_return_a_command(server: FakeOpenAI, model: ChatOpenAI) -> None:
    """There: a Command whose update said 4,000 was charged 1."""

    def node(state: MessagesState) -> Command[Any]:
        return Command(goto=END, update={"messages": [model.invoke(state["messages"])]})

    manager = BudgetManager()
    result = run(one_node(node, max_tokens=10_000), manager)
    assert result["messages"][-1].content == "x"
    assert manager.accounts()["a"].consumed == server.billed_tokens == BILLED


def test_L4_a_wrapped_node_may_return_a_command() -> None:
    """The same by the published wrapper: its usage key is found in the Command's update."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=10_000)

    class Counted(Notes):
        tokens_used: int

    def node(state: Counted) -> Command[Any]:
        return Command(goto=END, update={"notes": ["x"], "tokens_used": BILLED})

    builder = StateGraph(Counted)
    builder.add_node("a", govern_node(manager, "a", node, usage_key="tokens_used"))
    builder.add_edge(START, "a")
    assert builder.compile().invoke({"notes": [], "tokens_used": 0})["notes"] == ["x"]
    assert manager.accounts()["a"].consumed == BILLED


def test_L5_a_node_that_raises_after_it_spent_is_charged(
    server: FakeOpenAI, model: ChatOpenAI
) -> None:
    """There: 0 were charged."""

    def node(state: MessagesState) -> dict[str, Any]:
        model.invoke(state["messages"])
        raise LookupError("after the call")

    manager = BudgetManager()
    with pytest.raises(LookupError):
        run(one_node(node, max_tokens=10_000), manager)
    assert manager.accounts()["a"].consumed == server.billed_tokens == BILLED


def test_L5_a_governed_function_that_raises_is_charged() -> None:
    """The same by `manager.govern`: what it used is not known, so its whole hold is charged."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=10_000)

    @manager.govern("a")
    def node(state: Notes) -> dict[str, Any]:
        raise LookupError("after the call")

    builder = StateGraph(Notes)
    builder.add_node("a", node)
    builder.add_edge(START, "a")
    with pytest.raises(LookupError):
        builder.compile().invoke({"notes": []})
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured > 1_000
    assert account.held == 0


def chain(model: ChatOpenAI) -> Any:
    """Return a chain with a model in it."""
    before = RunnableLambda(lambda state: state["messages"])
    return before | model | RunnableLambda(lambda message: {"messages": [message]})


def subgraph(model: ChatOpenAI) -> Any:
    """Return a compiled graph with a model in it."""
    builder = StateGraph(MessagesState)
    builder.add_node("deep", chain(model))
    builder.add_edge(START, "deep")
    return builder.compile()


@pytest.mark.parametrize("make", [chain, subgraph])
def test_L6_a_runnable_is_a_node(
    server: FakeOpenAI, model: ChatOpenAI, make: Callable[[ChatOpenAI], Any]
) -> None:
    """There: a TypeError, because a chain or a graph is not called like a function."""
    manager = BudgetManager()
    result = run(one_node(make(model), max_tokens=10_000), manager)
    assert result["messages"][-1].content == "x"
    assert manager.accounts()["a"].consumed == server.billed_tokens == BILLED


def test_L7_of_20_workers_just_those_run_that_fit() -> None:
    """There: 9 of 20 workers x 400 ran on 1,000, which is 3,600; 800 were recorded."""
    release = threading.Event()

    def answer(request: Any) -> Answer:
        return Answer(text="x", input_tokens=200, fill=True, hold=release)

    with FakeOpenAI(answer) as server:
        model = client(server, max_tokens=200)
        prompt = "word " * 180
        refused: list[str] = []

        def worker(state: Notes) -> dict[str, list[str]]:
            try:
                model.invoke(prompt)
            except BudgetExceededError as error:
                refused.append(error.code)
                if len(refused) == 18:
                    release.set()
                return {"notes": ["refused"]}
            return {"notes": ["ran"]}

        builder = StateGraph(Notes)
        builder.add_node("plan", lambda state: {"notes": []})
        builder.add_node("worker", worker, metadata=budget(max_tokens=1_000))
        builder.add_edge(START, "plan")
        fan_out = [Send("worker", {"notes": []}) for _ in range(20)]
        builder.add_conditional_edges("plan", lambda state: fan_out, ["worker"])
        manager = BudgetManager()
        app = govern_graph(builder, manager)
        result = app.invoke({"notes": []}, {"max_concurrency": 20})
        assert sorted(result["notes"]) == ["ran"] * 2 + ["refused"] * 18
        assert manager.accounts()["worker"].consumed == server.billed_tokens == 800
        assert manager.accounts()["worker"].denials == 18


def test_L8_a_refusal_is_not_retried(server: FakeOpenAI, model: ChatOpenAI) -> None:
    """There: LangGraph retried the error; the node ran 5 times, 25,000 tokens, consumed 0."""
    attempts: list[str] = []

    def node(state: MessagesState) -> dict[str, Any]:
        attempts.append("a")
        return {"messages": [model.invoke(state["messages"])]}

    policy = RetryPolicy(initial_interval=0.001, max_attempts=5)
    manager = BudgetManager()
    builder = one_node(node, max_tokens=500, retry_policy=policy)
    run(builder, manager)  # fits by what is known before it, and takes 4,000: once
    assert manager.accounts()["a"].consumed == server.billed_tokens == BILLED
    with pytest.raises(BudgetExceededError):
        run(builder, manager)
    assert len(attempts) == 2
    assert len(server.log) == 1
