"""Agents that would go on for ever, a provider with a log, and ways to run them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_langchain.context import LOSES_CONTEXT


@tool
def look_up(topic: str) -> str:
    """Look something up."""
    return f"Something about {topic}."


def loops(request: ScriptedRequest) -> Answer:
    """Ask for a tool for ever, as long as there is one; answer where there is none."""
    if "look_up" in request.tools:
        arguments = {"topic": f"topic {request.index}"}
        return Answer(tool_calls=[ToolCall(name="look_up", arguments=arguments)])
    if request.tools:
        return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments={"text": "Done."})])
    if "response_format" in request.body:
        return Answer(text='{"text": "Done."}')
    return Answer(text="This is what I found.")


def fills(request: ScriptedRequest) -> Answer:
    """Answer, and use up whatever cap there is; the input is not more than was estimated."""
    return Answer(text="An answer.", fill=True, input_tokens=5)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider whose models would go on for ever."""
    with FakeOpenAI(loops) as running:
        yield running


def chat(server: FakeOpenAI, model: str = "gpt-4o-mini", **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    # A connection that is kept alive would outlive the event loop of a test.
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": SecretStr("test")}
    given["http_async_client"] = client
    given |= {"stream_usage": True, "max_retries": 0}
    return ChatOpenAI(model=model, **given, **settings)


def governed(max_tokens: int = 5_000, **contract: Any) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=max_tokens, **contract)
    return manager


def ask_agent(agent: Any, config: Any = None, *, way: str = "invoke") -> Any:
    """Run an agent in one of the ways in which it can be run."""
    given = {"messages": [HumanMessage("Find something.")]}
    if way == "ainvoke":
        return asyncio.run(agent.ainvoke(given, config))
    if way == "stream":
        return [chunk for chunk, _ in agent.stream(given, config, stream_mode="messages")]
    return agent.invoke(given, config)


def caps(server: FakeOpenAI) -> list[int | None]:
    """Return the output caps that were sent."""
    return [request.body.get("max_completion_tokens") for request in server.log]


def assert_true(manager: BudgetManager, server: FakeOpenAI, name: str = "a") -> None:
    """Check that the books equal the log, and that nothing is left open."""
    server.wait_until_quiet()
    account = manager.accounts()[name]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)
    assert account.remaining >= 0


WAYS = ["invoke", "ainvoke", "stream"]
# On Python 3.10 a node of an awaited graph has neither the callbacks nor the context of its run.
NEEDS_CONTEXT = [
    "invoke",
    pytest.param("ainvoke", marks=pytest.mark.skipif(LOSES_CONTEXT, reason="Python 3.10")),
]
