"""The end of a budget under `BudgetMiddleware`: a last answer, a fallback or a question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel
from tests.integrations.langchain.middleware.conftest import (
    NEEDS_CONTEXT,
    ask_agent,
    assert_true,
    caps,
    chat,
    governed,
    look_up,
    loops,
)

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetMiddleware
from tbcontracts_langchain.middleware import CLOSING_LINE


class Report(BaseModel):
    """What a structured agent answers."""

    text: str


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("where", ["contract", "middleware"])
def test_it_ends_with_a_last_answer_from_the_reserve(
    server: FakeOpenAI, way: str, where: str
) -> None:
    """Ordinary turns stop at the reserve; the closing one has no tools and may use it."""
    said = "end" if where == "contract" else "raise"
    manager = governed(max_tokens=800, min_reserve=300, max_output_tokens=40, on_exceeded=said)
    middleware = BudgetMiddleware(manager, "a", on_exceeded=None if where == "contract" else "end")
    agent = create_agent(chat(server), [look_up], middleware=[middleware])
    ended = ask_agent(agent, way=way)
    assert ended["messages"][-1].text == "This is what I found."
    *turns, closing = server.log
    assert len(turns) > 1
    assert all("tools" in turn.body for turn in turns)
    assert "tools" not in closing.body
    assert CLOSING_LINE in closing.system_text
    assert sum(turn.billed_tokens for turn in turns) <= 500
    assert_true(manager, server)


def test_it_also_ends_when_the_total_above_it_is_used_up(server: FakeOpenAI) -> None:
    """The team's budget caps and ends its agent; only the agent's own contract says how."""
    month = BudgetManager()
    month.register_agent("team", max_tokens=60)
    manager = governed(max_tokens=9_000, on_exceeded="end").within(month, agent="team")
    model = chat(server, max_completion_tokens=4_000)
    agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
    ended = ask_agent(agent)
    assert "token budget of agent 'a' is used up" in ended["messages"][-1].text
    assert server.log == ()
    month.top_up("team", 300)
    assert ask_agent(agent)["messages"][-1].text == "This is what I found."
    assert 300 < (caps(server)[0] or 0) < 360
    assert month.accounts()["team"].consumed == server.billed_tokens > 0


def test_without_a_reserve_it_ends_with_a_message(server: FakeOpenAI) -> None:
    """No exception: programs find the reason in the metadata of the last message."""
    manager = governed(max_tokens=60, on_exceeded="end")
    agent = create_agent(chat(server), [look_up], middleware=[BudgetMiddleware(manager, "a")])
    ended = ask_agent(agent)
    last = ended["messages"][-1]
    assert last.text == "The token budget of agent 'a' is used up; its work ends here."
    assert last.response_metadata["tbcontracts"] == {
        "code": "budget_exceeded",
        "agent": "a",
        "scope": "default",
    }
    assert server.log == ()


@pytest.mark.parametrize("broken", ["fault", "tools"])
def test_a_closing_call_that_fails_does_not_keep_it_from_ending(broken: str) -> None:
    """The provider's trouble, or another wish for tools, is answered with the plain message."""

    def script(request: ScriptedRequest) -> Answer | Fault:
        if request.tools:
            return loops(request)
        if broken == "fault":
            return Fault(status=500)
        return Answer(tool_calls=[ToolCall(name="look_up", arguments={"topic": "more"})])

    with FakeOpenAI(script) as server:
        manager = governed(max_tokens=800, min_reserve=300, max_output_tokens=40, on_exceeded="end")
        middleware = BudgetMiddleware(manager, "a")
        ended = ask_agent(create_agent(chat(server), [look_up], middleware=[middleware]))
        assert "its work ends here" in ended["messages"][-1].text
        assert_true(manager, server)


def test_good_enough_work_ends_without_another_call(server: FakeOpenAI) -> None:
    """The confidence gate says no more is needed: nothing more is spent."""
    manager = governed(on_exceeded="end", confidence_threshold=0.8)
    manager.report_confidence("a", 0.9)
    agent = create_agent(chat(server), [look_up], middleware=[BudgetMiddleware(manager, "a")])
    assert "good enough" in ask_agent(agent)["messages"][-1].text
    assert server.log == ()


@pytest.mark.parametrize("strategy", [Report, ToolStrategy(Report), ProviderStrategy(Report)])
@pytest.mark.parametrize("with_tools", [True, False])
def test_a_structured_agent_closes_with_its_structure(
    server: FakeOpenAI, strategy: Any, with_tools: bool
) -> None:
    """The closing call still answers in the structure that was asked for."""
    manager = governed(max_tokens=900, min_reserve=400, max_output_tokens=40, on_exceeded="end")
    if not with_tools:
        manager.record_usage("a", 450)
    agent: Any = create_agent(
        chat(server),
        [look_up] if with_tools else [],
        middleware=[BudgetMiddleware(manager, "a")],
        response_format=strategy,
    )
    ended = ask_agent(agent)
    assert ended["structured_response"] == Report(text="Done.")
    assert CLOSING_LINE in server.log[-1].system_text
    spent = 0 if with_tools else 450
    assert manager.accounts()["a"].consumed == spent + server.billed_tokens


@pytest.mark.parametrize("hooks", [0, 1, 2])
def test_a_structured_agent_without_any_budget_ends_too(server: FakeOpenAI, hooks: int) -> None:
    """Without a structure LangChain's loop would begin again, for ever; it does not."""

    class Hook(AgentMiddleware[Any, Any, Any]):
        def __init__(self, number: int) -> None:
            self._number = number

        @property
        def name(self) -> str:
            return f"hook{self._number}"

        def after_model(self, state: Any, runtime: Any) -> None:
            return None

    manager = governed(max_tokens=60, on_exceeded="end")
    agent: Any = create_agent(
        chat(server),
        middleware=[*map(Hook, range(hooks)), BudgetMiddleware(manager, "a")],
        response_format=ToolStrategy(Report),
    )
    ended = ask_agent(agent, {"recursion_limit": 30})
    assert "its work ends here" in ended["messages"][-1].text
    assert ended.get("structured_response") is None
    assert server.log == ()


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_cheaper_model_answers_instead(server: FakeOpenAI, way: str) -> None:
    """The fallback passes the gate like any other call; where it is refused too, that is raised."""
    fallback = {"fallback": chat(server, "cheap", max_completion_tokens=20)}
    manager = governed(max_tokens=70, on_exceeded=fallback)
    agent = create_agent(chat(server, "dear"), middleware=[BudgetMiddleware(manager, "a")])
    ended = ask_agent(agent, way=way)
    assert ended["messages"][-1].text == "This is what I found."
    assert [request.model for request in server.log] == ["cheap"]
    assert_true(manager, server)
    manager.record_usage("a", manager.remaining("a"))
    with pytest.raises(BudgetExceededError):
        ask_agent(agent, way=way)
    assert len(server.log) == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_function_answers_instead(server: FakeOpenAI, way: str) -> None:
    """It gets the request, may be awaited, and may return text or a message."""

    def text(request: Any) -> str:
        return f"{len(request.messages)} messages, no budget."

    async def message(request: Any) -> AIMessage:
        return AIMessage(text(request))

    manager = governed(max_tokens=20)
    other: Callable[..., Any] = message if way == "ainvoke" else text
    middleware = BudgetMiddleware(manager, "a", on_exceeded={"fallback": other})
    ended = ask_agent(create_agent(chat(server), middleware=[middleware]), way=way)
    assert ended["messages"][-1].text == "1 messages, no budget."
    assert server.log == ()


def test_a_fallback_that_is_a_node_is_left_to_the_graph(server: FakeOpenAI) -> None:
    """A contract whose fallback names a node of the graph around is not for the agent to do."""
    manager = governed(max_tokens=20, on_exceeded={"fallback": "cheap_node"})
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager, "a")])
    with pytest.raises(BudgetExceededError):
        ask_agent(agent)


@pytest.mark.parametrize("way", NEEDS_CONTEXT)
def test_somebody_is_asked_for_more(server: FakeOpenAI, way: str) -> None:
    """The agent pauses before the call; each grant is applied once, however often it resumes."""
    manager = governed(max_tokens=60, on_exceeded="ask")
    agent: Any = create_agent(
        chat(server, max_completion_tokens=80),
        middleware=[BudgetMiddleware(manager, "a")],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "1"}}

    def resume(answer: Any) -> Any:
        if way == "ainvoke":
            return asyncio.run(agent.ainvoke(Command(resume=answer), config))
        return agent.invoke(Command(resume=answer), config)

    paused = ask_agent(agent, config, way=way)
    (question,) = paused["__interrupt__"]
    assert question.value["kind"] == "budget_request"
    assert (question.value["agent_name"], question.value["lacking"] > 0) == ("a", True)
    (question,) = resume(1)["__interrupt__"]  # not enough: it asks again
    assert manager.accounts()["a"].allocated == 61
    (question,) = resume("much")["__interrupt__"]
    assert "number of tokens" in question.value["problem"]
    ended = resume(200)
    assert ended["messages"][-1].text == "This is what I found."
    assert manager.accounts()["a"].allocated == 261
    assert len(server.log) == 1
    assert_true(manager, server)


@pytest.mark.parametrize("answer", [0, None, False])
def test_nothing_granted_is_the_refusal(server: FakeOpenAI, answer: Any) -> None:
    """Whoever was asked said no."""
    manager = governed(max_tokens=60, on_exceeded="ask")
    agent: Any = create_agent(
        chat(server), middleware=[BudgetMiddleware(manager, "a")], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    (question,) = ask_agent(agent, config)["__interrupt__"]
    with pytest.raises(BudgetExceededError):
        agent.invoke(Command(resume={question.id: answer}), config)
    assert server.log == ()


def test_without_a_checkpointer_nobody_can_be_asked(server: FakeOpenAI) -> None:
    """The refusal says what is missing."""
    manager = governed(max_tokens=60, on_exceeded="ask")
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager, "a")])
    with pytest.raises(BudgetExceededError, match="needs a checkpointer"):
        ask_agent(agent)
