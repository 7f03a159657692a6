"""Agents under `BudgetMiddleware`: real create_agent, real ChatOpenAI, the server's log is true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, wrap_model_call
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, SecretStr

from tbcontracts import BudgetExceededError, BudgetManager, UnknownAgentError
from tbcontracts.testing import Answer, FakeOpenAI, Fault, ScriptedRequest, ToolCall
from tbcontracts_langchain import BudgetedChatModel, BudgetMiddleware, budget_callbacks
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langchain.middleware import CLOSING_LINE, announcement


class Report(BaseModel):
    """What a structured agent answers."""

    text: str


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
# On Python 3.10 an awaited node has neither the callbacks nor the context of its run.
NEEDS_CONTEXT = [
    "invoke",
    pytest.param("ainvoke", marks=pytest.mark.skipif(LOSES_CONTEXT, reason="Python 3.10")),
]


# --- charging and clamping ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:On Python 3.10 LangGraph does not hand callbacks on")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_callbacks", [True, False])
def test_each_turn_is_one_hold_and_one_charge(
    server: FakeOpenAI, way: str, with_callbacks: bool
) -> None:
    """With the run's own callbacks or without them, the books equal the log."""
    manager = governed(max_output_tokens=40, on_exceeded="end")
    agent = create_agent(
        chat(server), [look_up], middleware=[BudgetMiddleware(manager, "a")], name="other"
    )
    config = {"callbacks": budget_callbacks(manager)} if with_callbacks else None
    ask_agent(agent, config, way=way)
    kinds = [entry.kind for entry in manager.journal()]
    assert kinds.count("held") == kinds.count("settled") == len(server.log) > 2
    assert_true(manager, server)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cap", [None, 4_000, 100])
def test_the_cap_that_is_sent_is_what_is_left(way: str, cap: int | None) -> None:
    """It is lowered to what is left, and never raised; the hold covers it."""
    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=300)
        model = chat(server, max_completion_tokens=cap)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent, way=way)
        (sent,) = caps(server)
        (held,) = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        assert sent is not None
        if cap == 100:
            assert sent == 100
        else:
            assert 250 < sent < 300
            assert held == 300
        assert_true(manager, server)


@pytest.mark.parametrize("bound", ["settings", "bind", "contract"])
def test_a_lower_cap_is_never_raised(bound: str) -> None:
    """Whoever set it: another middleware, whoever made the model, the contract."""

    @wrap_model_call
    def careful(request: Any, handler: Any) -> Any:
        return handler(request.override(model_settings={"max_tokens": 30}))

    with FakeOpenAI(fills) as server:
        manager = governed(max_output_tokens=30 if bound == "contract" else None)
        middleware: list[Any] = [BudgetMiddleware(manager, "a")]
        model: Any = chat(server, max_completion_tokens=200)
        if bound == "settings":
            middleware = [careful, *middleware]
        elif bound == "bind":
            model = model.bind(max_tokens=30)
        ask_agent(create_agent(model, middleware=middleware))
        assert caps(server) == [30]


def test_a_cap_in_the_settings_is_lowered_there() -> None:
    """Model settings win over the model, so the cap is lowered where it stands."""

    @wrap_model_call
    def generous(request: Any, handler: Any) -> Any:
        return handler(request.override(model_settings={"max_tokens": 9_000}))

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=500)
        model = chat(server, max_completion_tokens=20)
        agent = create_agent(model, middleware=[generous, BudgetMiddleware(manager, "a")])
        ask_agent(agent)
        assert 400 < (caps(server)[0] or 0) < 500
        assert_true(manager, server)


@pytest.mark.parametrize("way", WAYS)
def test_a_turn_with_too_little_left_is_not_sent(server: FakeOpenAI, way: str) -> None:
    """Under "raise" the refusal comes out, and nothing was sent."""
    manager = governed(max_tokens=60)
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager, "a")])
    with pytest.raises(BudgetExceededError, match="'a' asked for"):
        ask_agent(agent, way=way)
    assert server.log == ()
    assert manager.accounts()["a"].denials == 1


def test_the_floor_is_what_the_middleware_says(server: FakeOpenAI) -> None:
    """`min_output_tokens` is the shortest answer that is sent for."""
    manager = governed(max_tokens=60)
    middleware = BudgetMiddleware(manager, "a", min_output_tokens=20)
    ask_agent(create_agent(chat(server), middleware=[middleware]))
    assert 20 <= (caps(server)[0] or 0) < 60


def test_parallel_agents_are_sent_as_far_as_they_fit() -> None:
    """Forty at once: each call that was sent is covered, and what is left is too little."""
    everybody = threading.Event()
    with FakeOpenAI(
        lambda request: Answer(text="x", fill=True, input_tokens=5, hold=everybody)
    ) as server:
        manager = governed(max_tokens=5_000)
        model = chat(server, max_completion_tokens=1_900)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        refused = threading.Semaphore(0)

        def run(number: int) -> bool:
            try:
                ask_agent(agent)
            except BudgetExceededError:
                refused.release()
                return False
            return True

        with ThreadPoolExecutor(40) as pool:
            results = pool.map(run, range(40))
            server.wait_for_requests(3)
            for _ in range(37):
                assert refused.acquire(timeout=60)
            assert manager.accounts()["a"].held <= 5_000
            assert manager.accounts()["a"].remaining < 64 + 20
            everybody.set()
            assert sorted(results) == [False] * 37 + [True] * 3
        assert sorted(cap or 0 for cap in caps(server))[1:] == [1_900, 1_900]
        assert_true(manager, server)


@pytest.mark.parametrize("way", NEEDS_CONTEXT)
def test_a_lost_race_is_clamped_again(way: str) -> None:
    """What another call took between the look and the hold makes the cap smaller."""

    class Takes(BaseCallbackHandler):
        """Takes 400 tokens when the call starts, before the hold."""

        raise_error = run_inline = True

        def __init__(self) -> None:
            self.left = 1

        def on_chat_model_start(self, *arguments: Any, **kwargs: Any) -> None:
            if self.left:
                self.left -= 1
                manager.record_usage("a", 400)

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=1_000)
        model = chat(server, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent, {"callbacks": [Takes()]}, way=way)
        (sent,) = caps(server)
        assert 500 < (sent or 0) < 600
        assert manager.accounts()["a"].consumed == 400 + server.billed_tokens


def test_an_input_that_grew_on_the_way_is_learned_from_the_refusal() -> None:
    """Middleware further in may add to the request: the hold says how much it really is."""

    @wrap_model_call
    def adds(request: Any, handler: Any) -> Any:
        return handler(request.override(system_message=SystemMessage("word " * 200)))

    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=1_000)
        model = chat(server, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a"), adds])
        ask_agent(agent)
        assert len(server.log) == 1
        assert 500 < (caps(server)[0] or 0) < 800
        assert_true(manager, server)


def test_a_call_further_in_is_not_made_twice() -> None:
    """Where middleware inside made a call of its own, a refusal is not tried again."""

    @wrap_model_call
    def asks_first(request: Any, handler: Any) -> Any:
        chat(running, max_completion_tokens=100).invoke("Which tool?")
        return handler(request)

    with FakeOpenAI(fills) as running:
        manager = governed(max_tokens=1_000)
        model = chat(running, max_completion_tokens=4_000)
        agent = create_agent(model, middleware=[BudgetMiddleware(manager, "a"), asks_first])
        with pytest.raises(BudgetExceededError):
            ask_agent(agent)
        assert len(running.log) == 1
        assert_true(manager, running)


# --- near the limit -------------------------------------------------------------------------------


@pytest.mark.parametrize(("below", "expected"), [(0.5, "cheap"), (0.3, "dear"), (300, "cheap")])
def test_near_the_limit_a_cheaper_model_answers(below: float, expected: str) -> None:
    """The threshold is a part of the contract or a number of tokens; the hold is that model's."""
    with FakeOpenAI(fills) as server:
        manager = governed(max_tokens=500)
        manager.record_usage("a", 260)
        middleware = BudgetMiddleware(
            manager,
            "a",
            downgrade_to=chat(server, "cheap", max_completion_tokens=50),
            downgrade_below=below,
        )
        agent = create_agent(
            chat(server, "dear", max_completion_tokens=150), middleware=[middleware]
        )
        ask_agent(agent)
        (request,) = server.log
        assert request.model == expected
        held = [entry.amount for entry in manager.journal() if entry.kind == "held"]
        assert held[0] - request.input_tokens < (90 if expected == "cheap" else 190)
        assert caps(server) == [50 if expected == "cheap" else 150]


@pytest.mark.parametrize("way", WAYS)
def test_the_agent_is_told_what_is_left(server: FakeOpenAI, way: str) -> None:
    """In the system message of each call, in steps, and never in the state."""
    manager = governed(max_tokens=6_000, on_exceeded="end", max_output_tokens=30)
    middleware = BudgetMiddleware(manager, "a", announce=True)
    agent = create_agent(
        chat(server), [look_up], middleware=[middleware], system_prompt="Be brief."
    )
    ended = ask_agent(agent, way=way)
    first, *_, last = [request.system_text for request in server.log]
    assert first == f"Be brief.\n\n{announcement(6_000, 6_000)}"
    assert "about 6,000 tokens left of 6,000" in first
    assert CLOSING_LINE in last
    said = {request.system_text for request in server.log}
    assert len(said) < len(server.log)  # the same words for some calls: the prompt cache holds
    if way != "stream":
        assert not [m for m in ended["messages"] if "left of" in m.text]


def test_what_is_announced_changes_in_steps() -> None:
    """Rounded down to a twentieth, exact for small budgets, never negative."""
    assert "about 3,400 tokens left of 4,000" in announcement(3_599, 4_000)
    assert "about 3,400 tokens left of 4,000" in announcement(3_400, 4_000)
    assert "fewer than 200 tokens left of 4,000" in announcement(199, 4_000)
    assert "fewer than 200 tokens left of 4,000" in announcement(-50, 4_000)
    assert "about 7 tokens left of 10" in announcement(7, 10)


def test_blocks_of_a_system_message_stay_as_they_are(server: FakeOpenAI) -> None:
    """What a provider was told to cache stands unchanged before the line."""
    manager = governed()
    block: dict[str, Any] = {"type": "text", "text": "Be brief."}
    agent = create_agent(
        chat(server),
        middleware=[BudgetMiddleware(manager, "a", announce=True)],
        system_prompt=SystemMessage([block]),
    )
    ask_agent(agent)
    sent = server.log[0].body["messages"][0]["content"]
    assert sent[0] == block
    assert "tokens left of" in sent[1]["text"]


# --- the end --------------------------------------------------------------------------------------


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


# --- who pays, and what cannot be -----------------------------------------------------------------


def test_without_a_name_the_agents_own_name_pays(server: FakeOpenAI) -> None:
    """As the handler does it: by the name given to create_agent."""
    manager = governed(max_output_tokens=30)
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager)], name="a")
    ask_agent(agent)
    assert_true(manager, server)


def test_an_agent_without_a_contract_is_tracked(server: FakeOpenAI) -> None:
    """There is no budget to wind down with: its calls are on a line of their own."""
    manager = governed()
    agent = create_agent(chat(server), middleware=[BudgetMiddleware(manager)], name="stranger")
    with pytest.warns(UserWarning, match="'stranger' has no contract"):
        ask_agent(agent)
    assert manager.accounts()["stranger"].consumed == server.billed_tokens


def test_each_agent_pays_for_itself_when_one_calls_the_other() -> None:
    """A sub-agent inside a tool has its own middleware, contract and end."""

    def script(request: ScriptedRequest) -> Answer:
        if "delegate" in request.tools and "helped" not in str(request.messages):
            return Answer(tool_calls=[ToolCall(name="delegate", arguments={"work": "all"})])
        return Answer(text="helped")

    with FakeOpenAI(script) as server:
        manager = governed(max_output_tokens=40)
        manager.register_agent("sub", max_tokens=2_000, max_output_tokens=40)
        model = chat(server)
        sub = create_agent(
            model, middleware=[BudgetMiddleware(manager, "sub")], system_prompt="sub"
        )

        @tool
        def delegate(work: str) -> str:
            """Have somebody else do it."""
            given: Any = {"messages": [HumanMessage(work)]}
            return str(sub.invoke(given)["messages"][-1].text)

        agent = create_agent(model, [delegate], middleware=[BudgetMiddleware(manager, "a")])
        ask_agent(agent)
        billed = server.billed_by(lambda request: request.system_text)
        accounts = manager.accounts()
        assert accounts["sub"].consumed == billed["sub"] > 0
        assert accounts["a"].consumed == billed[""] > 0


def test_a_budgeted_model_inside_is_not_counted_twice(server: FakeOpenAI) -> None:
    """The model caps and holds for itself; the middleware still ends the agent."""
    manager = governed(max_tokens=800, min_reserve=300, max_output_tokens=40, on_exceeded="end")
    model = BudgetedChatModel(inner=chat(server), manager=manager, agent="a")
    agent = create_agent(model, [look_up], middleware=[BudgetMiddleware(manager, "a")])
    assert ask_agent(agent)["messages"][-1].text == "This is what I found."
    assert all(cap is not None and cap <= 40 for cap in caps(server))
    assert_true(manager, server)


def test_threads_have_books_of_their_own(server: FakeOpenAI) -> None:
    """The scope of the run's handler is the one that the middleware looks at."""
    manager = governed(max_tokens=300)
    agent = create_agent(
        chat(server, max_completion_tokens=4_000), middleware=[BudgetMiddleware(manager, "a")]
    )
    for thread in ("1", "2"):
        callbacks = budget_callbacks(manager, scope_by="thread_id")
        ask_agent(agent, {"callbacks": callbacks, "configurable": {"thread_id": thread}})
    consumed = [manager.scope(f"default/{t}").accounts()["a"].consumed for t in ("1", "2")]
    assert sum(consumed) == server.billed_tokens
    assert all(250 < (cap or 0) < 300 for cap in caps(server))
    assert manager.accounts()["a"].consumed == 0


def test_what_cannot_be_is_said_at_once(server: FakeOpenAI) -> None:
    """Mistakes come out when the middleware is made."""
    manager = governed()
    with pytest.raises(TypeError, match="manager must be"):
        BudgetMiddleware("manager")  # type: ignore[arg-type]
    with pytest.raises(UnknownAgentError, match="Did you mean"):
        BudgetMiddleware(manager, "A")
    with pytest.raises(ValueError, match="min_output_tokens"):
        BudgetMiddleware(manager, "a", min_output_tokens=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        BudgetMiddleware(manager, "a", downgrade_below=1.5)
    with pytest.raises(TypeError, match="downgrade_below"):
        BudgetMiddleware(manager, "a", downgrade_below=True)
    with pytest.raises(TypeError, match="downgrade_to"):
        BudgetMiddleware(manager, "a", downgrade_to=7)
    with pytest.raises(ValueError, match="on_exceeded"):
        BudgetMiddleware(manager, "a", on_exceeded="stop")
