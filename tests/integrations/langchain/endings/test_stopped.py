"""Calls that another handler or an interrupt stops: free until they are sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from tests.integrations.langchain.endings.conftest import ask_all, chat, governed, is_as_billed

from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain.runs import stopped_at_start

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


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
