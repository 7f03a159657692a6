"""Retries: a refusal is not repeated, and failed calls cost what was billed."""

from __future__ import annotations

from typing import Any

import langchain_core.exceptions
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from tests.integrations.langchain.endings.conftest import TEXT, chat, governed, is_as_billed, kinds

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, FakeOpenAI, Fault

# LangChain keeps its HTTP clients longer than a test keeps its event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"
)


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
