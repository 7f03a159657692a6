"""`BudgetMiddleware` beside the middleware that LangChain brings; the order matters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    SummarizationMiddleware,
)
from langchain_core import exceptions
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetMiddleware, budget_callbacks

QUESTION = {"messages": [HumanMessage("Find something.")]}


@tool
def look_up(topic: str) -> str:
    """Look something up."""
    return f"Something about {topic}."


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that fails on its first request, and for the model "broken"."""

    def script(request: ScriptedRequest) -> Answer | Fault:
        if request.model == "broken" or (request.model == "shaky" and request.index == 0):
            return Fault(status=500)
        return Answer(text="An answer.")

    with FakeOpenAI(script) as running:
        yield running


def chat(server: FakeOpenAI, model: str, **settings: Any) -> ChatOpenAI:
    """Return a real client for the local provider."""
    # A connection that is kept alive would outlive the event loop of a test.
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
    given: dict[str, Any] = {"base_url": server.base_url, "api_key": SecretStr("test")}
    given["http_async_client"] = client
    given |= {"max_retries": 0, "max_completion_tokens": 4_000}
    return ChatOpenAI(model=model, **{**given, **settings})


def governed(max_tokens: int = 1_000, **contract: Any) -> BudgetManager:
    """Return a manager with one agent."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=max_tokens, **contract)
    return manager


def assert_true(manager: BudgetManager, server: FakeOpenAI) -> None:
    """Check that the books equal the log, and that nothing is left open."""
    account = manager.accounts()["a"]
    assert (account.consumed, account.held, account.unmeasured) == (server.billed_tokens, 0, 0)


def run(agent: Any, way: str = "invoke", config: Any = None) -> Any:
    """Run an agent, waiting or awaited."""
    if way == "ainvoke":
        return asyncio.run(agent.ainvoke(QUESTION, config))
    return agent.invoke(QUESTION, config)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("ours", ["outside", "inside"])
def test_retries_are_each_held(server: FakeOpenAI, way: str, ours: str) -> None:
    """A failed attempt is free, the one that was answered is charged, in either order."""
    manager = governed()
    both: list[Any] = [BudgetMiddleware(manager, "a"), ModelRetryMiddleware(initial_delay=0)]
    middleware = both if ours == "outside" else both[::-1]
    run(create_agent(chat(server, "shaky"), middleware=middleware), way)
    assert [request.status for request in server.log] == [500, 200]
    assert all(request.body["max_completion_tokens"] < 1_000 for request in server.log)
    assert_true(manager, server)


@pytest.mark.skipif(
    not hasattr(exceptions, "ModelError"), reason="langchain-core before 1.7 retries everything"
)
@pytest.mark.parametrize("ours", ["outside", "inside"])
def test_a_refusal_is_not_retried(server: FakeOpenAI, ours: str) -> None:
    """LangChain's retries let a refusal pass at once."""
    manager = governed(max_tokens=60)
    both: list[Any] = [BudgetMiddleware(manager, "a"), ModelRetryMiddleware(initial_delay=0)]
    middleware = both if ours == "outside" else both[::-1]
    with pytest.raises(BudgetExceededError):
        run(create_agent(chat(server, "any"), middleware=middleware))
    assert server.log == ()
    assert manager.accounts()["a"].denials == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_inside_fallbacks_the_other_model_is_capped_too(server: FakeOpenAI, way: str) -> None:
    """Closest to the model, it sees every model that is tried."""
    manager = governed()
    middleware: list[Any] = [
        ModelFallbackMiddleware(chat(server, "other")),
        BudgetMiddleware(manager, "a"),
    ]
    run(create_agent(chat(server, "broken"), middleware=middleware), way)
    assert [request.model for request in server.log] == ["broken", "other"]
    assert all(request.body["max_completion_tokens"] < 1_000 for request in server.log)
    assert_true(manager, server)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_outside_fallbacks_the_other_model_is_held_not_capped(server: FakeOpenAI, way: str) -> None:
    """Its caps are its own there, but it still cannot spend what is not there."""
    manager = governed()
    middleware: list[Any] = [
        BudgetMiddleware(manager, "a"),
        ModelFallbackMiddleware(chat(server, "other", max_completion_tokens=700)),
    ]
    run(create_agent(chat(server, "broken"), middleware=middleware), way)
    assert [request.model for request in server.log] == ["broken", "other"]
    assert server.log[1].body["max_completion_tokens"] == 700
    assert_true(manager, server)
    middleware[1] = ModelFallbackMiddleware(chat(server, "other"))
    with pytest.raises(BudgetExceededError):
        run(create_agent(chat(server, "broken"), middleware=middleware))
    assert server.log[-1].model == "broken"


def test_summaries_are_charged_with_the_runs_callbacks(server: FakeOpenAI) -> None:
    """They are made before the turn: the run's callbacks see them, middleware alone does not."""
    for with_callbacks in (True, False):
        server.clear()
        manager = governed(max_tokens=50_000)
        middleware: list[Any] = [
            SummarizationMiddleware(
                chat(server, "small", max_completion_tokens=100),
                trigger=("messages", 3),
                keep=("messages", 1),
            ),
            BudgetMiddleware(manager, "a"),
        ]
        agent: Any = create_agent(chat(server, "any"), middleware=middleware, name="a")
        long = [HumanMessage("One."), AIMessage("Two."), HumanMessage("Three.")]
        config: Any = {"callbacks": budget_callbacks(manager)} if with_callbacks else None
        agent.invoke({"messages": long}, config)
        assert sorted(request.model for request in server.log) == ["any", "small"]
        turn = next(request for request in server.log if request.model == "any")
        seen = server.billed_tokens if with_callbacks else turn.billed_tokens
        assert manager.accounts()["a"].consumed == seen


@pytest.mark.parametrize("first", ["limit", "budget"])
def test_whichever_limit_comes_first_ends_the_agent(first: str) -> None:
    """A limit of calls and a budget stand beside each other."""

    def loops(request: ScriptedRequest) -> Answer:
        if request.tools:
            return Answer(tool_calls=[ToolCall(name="look_up", arguments={"topic": "more"})])
        return Answer(text="This is what I found.")

    with FakeOpenAI(loops) as server:
        manager = governed(
            max_tokens=50_000 if first == "limit" else 900,
            min_reserve=300,
            max_output_tokens=40,
            on_exceeded="end",
        )
        middleware: list[Any] = [
            ModelCallLimitMiddleware(run_limit=2 if first == "limit" else 1_000),
            BudgetMiddleware(manager, "a"),
        ]
        agent = create_agent(chat(server, "any"), [look_up], middleware=middleware)
        last = run(agent)["messages"][-1]
        if first == "limit":
            assert "limit" in last.text
            assert len(server.log) == 2
        else:
            assert last.text == "This is what I found."
            assert len(server.log) > 2
        assert_true(manager, server)


def test_without_langchain_the_rest_is_there() -> None:
    """With langchain-core alone only the middleware is missing, and says what to install."""
    script = (
        "import sys\n"
        "sys.modules['langchain'] = None\n"
        "import tbcontracts_langchain as ours\n"
        "assert ours.BudgetCallbackHandler and ours.BudgetedChatModel\n"
        "assert 'langgraph' not in sys.modules\n"
        "try:\n"
        "    ours.BudgetMiddleware\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "try:\n"
        "    ours.nonsense\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'langchain>=1.2'" in done.stdout
    assert "has no attribute 'nonsense'" in done.stdout
