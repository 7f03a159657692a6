"""The end of a budget in a graph: raise, end, fall back or ask, with the log as the truth."""

from __future__ import annotations

import asyncio
import json
import operator
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

import langchain_core.exceptions
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import Answer, ToolCall
from tbcontracts_langgraph import budget, budgeted, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")

WAYS = ("annotated", "budgeted")
THREAD: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


def asks(world: Any, name: str, calls: int = 1) -> Any:
    """Return a node that makes so many calls with a cap of 100 each."""
    model = world.chat(max_completion_tokens=100)

    def node(state: State) -> dict[str, list[str]]:
        said = [model.invoke([("system", name), ("user", "go")]) for _ in range(calls)]
        return {"notes": [f"{name} {len(said)}"]}

    return node


def builder_of(
    world: Any, way: str, node: Any, *, closing: Any = None, **contract: Any
) -> StateGraph[State, None, State, State]:
    """Return "work" before "next", under a contract in one of the two ways."""
    builder = StateGraph(State)
    if way == "annotated":
        builder.add_node("work", node, metadata=budget("worker", **contract))
    else:
        wrapper = budgeted(world.manager, "worker", closing=closing, **contract)
        builder.add_node("work", wrapper(node))
    builder.add_node("next", lambda state: {"notes": ["next"]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "next")
    builder.add_edge("next", END)
    return builder


# --- raise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_raise_goes_through_retries_and_resumes_after_a_top_up(world: Any, way: str) -> None:
    """Tried once; `invoke(None)` after a top-up goes on at the node, on the same books."""
    entered: list[str] = []
    inner = asks(world, "w")

    def node(state: State) -> Any:
        entered.append("work")
        return inner(state)

    builder = builder_of(world, way, node, max_tokens=10)
    builder.nodes["work"].retry_policy = RetryPolicy(initial_interval=0.001, max_attempts=3)
    app = govern_graph(builder, world.manager, checkpointer=InMemorySaver())
    with pytest.raises(BudgetExceededError):
        app.invoke({"notes": []}, THREAD)
    assert entered == ["work"]
    assert app.get_state(THREAD).next == ("work",)
    world.manager.top_up("worker", 1_000)
    assert app.invoke(None, THREAD)["notes"] == ["w 1", "next"]
    assert world.consumed == {"worker": world.server.billed_tokens}


@pytest.mark.parametrize("way", WAYS)
def test_raise_reaches_the_error_handler(world: Any, way: str) -> None:
    """LangGraph's own way to go elsewhere sees the refusal, which says whose it was."""
    seen: list[str] = []
    builder = StateGraph(State)
    node = asks(world, "w")
    extra: dict[str, Any] = {"metadata": budget("worker", max_tokens=10)}
    if way == "budgeted":
        node = budgeted(world.manager, "worker", max_tokens=10)(node)
        extra = {}
    try:
        from langgraph.errors import NodeError
    except ImportError:
        pytest.skip(f"langgraph {version('langgraph')} has no error handlers")

    def handler(state: State, error: NodeError) -> Command[Any]:
        assert isinstance(error.error, BudgetExceededError)
        seen.append(error.error.agent_name)
        return Command(goto="cheap")

    builder.add_node("work", node, error_handler=handler, **extra)
    builder.add_node("cheap", lambda state: {"notes": ["cheap"]})
    builder.add_node("next", lambda state: {"notes": ["next"]})
    builder.add_edge(START, "work")
    builder.add_edge("work", "next")
    app = govern_graph(builder, world.manager)
    assert app.invoke({"notes": []})["notes"] == ["cheap"]
    assert seen == ["worker"]


@pytest.mark.skipif(
    not hasattr(langchain_core.exceptions, "ModelError"),
    reason=f"langchain-core {version('langchain-core')} has no error that is not retried",
)
def test_model_retry_middleware_does_not_retry_a_refusal(world: Any) -> None:
    """LangChain's retry middleware lets the refusal of a budgeted agent pass at once."""
    agent = create_agent(world.model, [], middleware=[ModelRetryMiddleware(max_retries=3)])
    builder = StateGraph(MessagesState)
    builder.add_node("n", budgeted(world.manager, "agent", max_tokens=1)(agent))
    builder.add_edge(START, "n")
    with pytest.raises(BudgetExceededError):
        builder.compile().invoke({"messages": [HumanMessage("go")]})
    assert world.manager.accounts()["agent"].denials == 1


# --- end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_end_lets_the_graph_go_on(world: Any, way: str, awaited: bool) -> None:
    """The node writes nothing more; what follows it runs."""
    builder = builder_of(world, way, asks(world, "w", 99), max_tokens=300, on_exceeded="end")
    app = govern_graph(builder, world.manager)
    result = asyncio.run(app.ainvoke({"notes": []})) if awaited else app.invoke({"notes": []})
    assert result["notes"] == ["next"]
    assert 1 < len(world.server.log) < 99
    assert world.consumed == {"worker": world.server.billed_tokens}


@pytest.mark.parametrize("override", [False, True])
def test_only_the_closing_call_may_use_the_reserve(world: Any, override: bool) -> None:
    """Ordinary calls stop at the reserve, so that there is something to finish with."""
    model = world.chat(max_completion_tokens=100)
    refusals: list[str] = []
    remaining: list[int] = []

    def closing(state: State, refusal: BudgetExceededError) -> dict[str, list[str]]:
        refusals.append(refusal.code)
        remaining.append(world.manager.remaining("worker"))
        model.invoke([("system", "closing"), ("user", "sum up")])
        return {"notes": ["closed"]}

    contract: dict[str, Any] = {"max_tokens": 400, "min_reserve": 150}
    if override:  # the contract itself says "raise"
        world.manager.register_agent("worker", **contract)
        contract = {}
    builder = builder_of(
        world,
        "budgeted",
        asks(world, "w", 99),
        closing=closing,
        on_exceeded="end",
        **contract,
    )
    assert builder.compile().invoke({"notes": []})["notes"] == ["closed", "next"]
    assert refusals == ["reserve_kept"]
    assert remaining[0] >= 150
    assert world.server.log[-1].system_text == "closing"
    assert world.consumed == {"worker": world.server.billed_tokens}


def test_a_closing_call_that_cannot_be_paid_for_is_refused(world: Any) -> None:
    """The reserve is no blank cheque."""

    def closing(state: State) -> dict[str, list[str]]:
        world.chat(max_completion_tokens=900).invoke("sum up")
        return {"notes": ["closed"]}

    builder = builder_of(
        world, "budgeted", asks(world, "w", 99), closing=closing, on_exceeded="end", max_tokens=300
    )
    with pytest.raises(BudgetExceededError, match=r"9\d\d tokens"):
        builder.compile().invoke({"notes": []})


def looks(world: Any) -> Any:
    """Return an agent with one tool."""

    @tool
    def look() -> str:
        """Look."""
        return "something"

    return create_agent(world.chat(max_completion_tokens=100), [look])


@pytest.mark.parametrize("awaited", [False, True])
def test_an_agent_that_ends_keeps_what_it_has_done(world_of: Any, awaited: bool) -> None:
    """A subgraph's finished steps are its update: an agent's tool results are not lost."""
    calls_a_tool = Answer(tool_calls=[ToolCall(name="look", arguments={})], output_tokens=80)
    world = world_of(lambda request: calls_a_tool)
    builder = StateGraph(MessagesState)
    metadata = budget("agent", max_tokens=700, on_exceeded="end")
    builder.add_node("n", looks(world), metadata=metadata)
    builder.add_edge(START, "n")
    app = govern_graph(builder, world.manager)
    given = {"messages": [HumanMessage("go")]}
    result = asyncio.run(app.ainvoke(given)) if awaited else app.invoke(given)
    kinds = [message.type for message in result["messages"]]
    assert kinds[:3] == ["human", "ai", "tool"]
    assert kinds[-1] == "tool"
    assert kinds.count("human") == 1
    assert world.consumed == {"agent": world.server.billed_tokens}


def test_a_refusal_of_another_agent_is_not_ended_here(world: Any) -> None:
    """What happens at the end of an inner agent's budget is for its own contract to say."""
    inner = budgeted(world.manager, "inner", max_tokens=1)(asks(world, "inner"))
    builder = builder_of(world, "budgeted", inner, on_exceeded="end", priority=2, max_tokens=900)
    with pytest.raises(BudgetExceededError, match="'inner'"):
        builder.compile().invoke({"notes": []})


def test_a_node_ends_when_the_total_above_it_does(world: Any) -> None:
    """A hold is refused by an outer manager's books: that is this node's refusal, too."""
    total = BudgetManager(scope="month")
    total.register_agent("team", max_tokens=10)
    world.manager = world.manager.within(total, agent="team")
    builder = builder_of(world, "budgeted", asks(world, "w"), max_tokens=9_000, on_exceeded="end")
    assert builder.compile().invoke({"notes": []})["notes"] == ["next"]
    assert total.accounts()["team"].denials == 1
    assert world.held == 0


# --- fallback -------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", ["static", "conditional", "join"])
@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_fallback_node_takes_the_place_of_the_edges(
    world: Any, way: str, awaited: bool, edge: str
) -> None:
    """The graph goes to the fallback and on from there; the node's own edges are not taken."""
    contract: dict[str, Any] = {"max_tokens": 10, "on_exceeded": {"fallback": "cheap"}}
    builder = StateGraph(State)
    node = asks(world, "w")
    extra: dict[str, Any] = {}
    if way == "annotated":
        extra = {"metadata": budget("worker", **contract)}
    else:
        node = budgeted(world.manager, "worker", **contract)(node)
    builder.add_node("work", node, **extra)
    builder.add_node("cheap", lambda state: {"notes": ["cheap"]})
    builder.add_node("next", lambda state: {"notes": ["next"]})
    builder.add_edge(START, "work")
    if edge == "static":
        builder.add_edge("work", "next")
    elif edge == "join":
        builder.add_edge(["work"], "next")
    else:
        builder.add_conditional_edges("work", lambda state: "next", ["next"])
    builder.add_edge("cheap", END)
    app = govern_graph(builder, world.manager)
    drawn = {(one.source, one.target) for one in app.get_graph().edges}
    assert ("work", "next") in drawn
    result = asyncio.run(app.ainvoke({"notes": []})) if awaited else app.invoke({"notes": []})
    assert result["notes"] == ["cheap"]
    assert world.server.log == ()
    world.manager.top_up("worker", 900)
    assert app.invoke({"notes": []})["notes"] == ["w 1", "next"]


def test_a_fallback_must_be_a_node(world: Any) -> None:
    """A misspelt node is told at set-up, with the nearest one."""
    builder = builder_of(
        world, "annotated", asks(world, "w"), max_tokens=9, on_exceeded={"fallback": "nxet"}
    )
    with pytest.raises(ConfigurationError, match="nearest node is 'next'"):
        govern_graph(builder, world.manager)


@pytest.mark.parametrize("awaited", [False, True])
def test_a_fallback_function_is_called_as_the_node_is(world: Any, awaited: bool) -> None:
    """It gets state and config; its calls pass the gate of the same agent."""
    cheap = world.chat(max_completion_tokens=20)

    def fallback(state: State, config: RunnableConfig) -> dict[str, list[str]]:
        cheap.invoke([("system", "cheap"), ("user", "go")], config)
        return {"notes": ["cheap"]}

    builder = builder_of(
        world,
        "budgeted",
        asks(world, "w"),
        max_tokens=90,
        on_exceeded={"fallback": fallback},
    )
    app = builder.compile()
    result = asyncio.run(app.ainvoke({"notes": []})) if awaited else app.invoke({"notes": []})
    assert result["notes"] == ["cheap", "next"]
    assert world.consumed == {"worker": world.server.billed_tokens}
    world.manager.change_contract("worker", max_tokens=world.server.billed_tokens)
    with pytest.raises(BudgetExceededError):
        app.invoke({"notes": []})
    assert len(world.server.log) == 1


def test_a_cheaper_model_takes_the_place_of_the_nodes_model(world: Any) -> None:
    """A node with a parameter `model` is called again with the cheaper one."""
    strong = world.chat(model="strong", max_completion_tokens=500)
    cheap = world.chat(model="cheap", max_completion_tokens=50)

    def node(state: State, *, model: Any = strong) -> dict[str, list[str]]:
        return {"notes": [str(model.invoke("hello").content)]}

    async def anode(
        state: State, config: RunnableConfig, *, model: Any = strong
    ) -> dict[str, list[str]]:
        return {"notes": [str((await model.ainvoke("hello")).content)]}

    contract: dict[str, Any] = {"max_tokens": 200, "on_exceeded": {"fallback": cheap}}
    builder_of(world, "budgeted", node, **contract).compile().invoke({"notes": []})
    app = builder_of(world, "budgeted", anode, **contract).compile()
    asyncio.run(app.ainvoke({"notes": []}))
    assert [request.model for request in world.server.log] == ["cheap", "cheap"]
    assert world.consumed == {"worker": world.server.billed_tokens}


@pytest.mark.parametrize("awaited", [False, True])
def test_a_cheaper_model_answers_the_messages_of_a_runnable_node(world: Any, awaited: bool) -> None:
    """Where the node takes no model, the cheaper one answers the state's messages itself."""
    agent = create_agent(world.chat(max_completion_tokens=500), [], system_prompt="strong")
    cheap = world.chat(model="cheap").bind(max_completion_tokens=50)
    builder = StateGraph(MessagesState)
    wrapper = budgeted(world.manager, "agent", max_tokens=200, on_exceeded={"fallback": cheap})
    builder.add_node("n", wrapper(agent))
    builder.add_edge(START, "n")
    app = builder.compile()
    given: Any = {"messages": [HumanMessage("go")]}
    result = asyncio.run(app.ainvoke(given)) if awaited else app.invoke(given)
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert [request.model for request in world.server.log] == ["cheap"]
    assert world.consumed == {"agent": world.server.billed_tokens}


def test_a_model_that_cannot_be_used_is_told(world: Any) -> None:
    """Neither a parameter `model` nor `messages`: the error says what helps."""
    builder = builder_of(
        world, "budgeted", asks(world, "w"), max_tokens=9, on_exceeded={"fallback": world.model}
    )
    with pytest.raises(ConfigurationError, match="model=usual"):
        builder.compile().invoke({"notes": []})


def test_an_annotation_stays_plain(world: Any) -> None:
    """Annotations travel with messages to whoever reads the stream: JSON, or an error."""
    annotation = budget("a", max_tokens=9, on_exceeded={"fallback": "cheap"})
    assert json.loads(json.dumps(annotation)) == annotation
    with pytest.raises(TypeError, match="must be the name of a node, not ChatOpenAI"):
        budget("a", max_tokens=9, on_exceeded={"fallback": world.model})
    contract: dict[str, Any] = {"max_tokens": 900, "on_exceeded": {"fallback": world.model}}
    app: Any = builder_of(world, "budgeted", asks(world, "w"), **contract).compile()
    streamed = [metadata for _, metadata in app.stream({"notes": []}, stream_mode="messages")]
    assert [one["tbcontracts"] for one in streamed] == [{"agent": "worker"}] * len(streamed)
    assert streamed


# --- ask ------------------------------------------------------------------------------------------


def asking(world: Any, way: str, node: Any, *, max_tokens: int = 10) -> Any:
    """Return an app that pauses, with checkpoints."""
    builder = builder_of(world, way, node, max_tokens=max_tokens, min_reserve=0, on_exceeded="ask")
    return govern_graph(builder, world.manager, checkpointer=InMemorySaver())


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_ask_pauses_before_the_call_and_goes_on_with_a_grant(
    world: Any, way: str, awaited: bool
) -> None:
    """Nothing was sent when it pauses; the question says who, how much and why, as plain data."""
    node = asks(world, "w")
    if awaited:
        model = world.chat(max_completion_tokens=100)

        async def node(state: State, config: RunnableConfig) -> dict[str, list[str]]:
            await model.ainvoke("go", config)
            return {"notes": ["w 1"]}

    def step(given: Any) -> Any:
        return asyncio.run(app.ainvoke(given, THREAD)) if awaited else app.invoke(given, THREAD)

    app = asking(world, way, node)
    paused = step({"notes": []})
    (question,) = paused["__interrupt__"]
    assert json.loads(json.dumps(question.value)) == question.value
    assert question.value["kind"] == "budget_request"
    assert question.value["agent_name"] == "worker"
    assert world.server.log == ()
    result = step(Command(resume=question.value["lacking"]))
    assert result["notes"] == ["w 1", "next"]
    assert len(world.server.log) == 1
    assert world.consumed == {"worker": world.server.billed_tokens}
    report = world.manager.report()["worker"]
    assert report["allocated"] == 10 + question.value["lacking"]


@pytest.mark.parametrize("way", WAYS)
def test_a_grant_is_applied_once_however_often_the_node_is_replayed(world: Any, way: str) -> None:
    """Too little is asked for again; each replay runs the node anew, no grant counts twice."""
    app = asking(world, way, asks(world, "w", 2))
    asked = 0
    result = app.invoke({"notes": []}, THREAD)
    while "__interrupt__" in result:
        asked += 1
        result = app.invoke(Command(resume=35), THREAD)
    assert result["notes"] == ["w 2", "next"]
    assert asked > 3
    topped_up = [entry.amount for entry in world.manager.journal() if entry.kind == "topped_up"]
    assert topped_up == [35] * asked
    assert world.manager.report()["worker"]["allocated"] == 10 + 35 * asked
    assert len(world.server.log) > 2
    assert world.consumed == {"worker": world.server.billed_tokens}


@pytest.mark.parametrize("way", WAYS)
def test_pauses_of_the_node_itself_get_their_own_answers(world: Any, way: str) -> None:
    """A grant that was applied is not handed to the node's own `interrupt` when it is replayed."""
    model = world.chat(max_completion_tokens=20)
    answers: list[Any] = []

    def node(state: State) -> dict[str, list[str]]:
        model.invoke("one")
        answers.append(interrupt("your name?"))
        model.invoke("two")
        answers.append(interrupt("your age?"))
        return {"notes": [str(answers[-2:])]}

    app = asking(world, way, node)
    first = app.invoke({"notes": []}, THREAD)
    assert first["__interrupt__"][0].value["kind"] == "budget_request"
    second = app.invoke(Command(resume=1_000), THREAD)
    assert second["__interrupt__"][0].value == "your name?"
    third = app.invoke(Command(resume="Ada"), THREAD)
    assert third["__interrupt__"][0].value == "your age?"
    assert app.invoke(Command(resume=36), THREAD)["notes"] == ["['Ada', 36]", "next"]
    assert world.manager.report()["worker"]["allocated"] == 1_010


@pytest.mark.parametrize("answer", [0, False])
def test_a_grant_of_nothing_is_a_refusal(world: Any, answer: Any) -> None:
    """0 or False: the call is refused, as if nobody had been asked."""
    app = asking(world, "annotated", asks(world, "w"))
    app.invoke({"notes": []}, THREAD)
    with pytest.raises(BudgetExceededError, match="'worker'"):
        app.invoke(Command(resume=answer), THREAD)
    assert world.server.log == ()


def test_a_grant_of_none_by_its_id_is_a_refusal(world: Any) -> None:
    """LangGraph takes None for no answer at all, unless it is given to an interrupt by its id."""
    app = asking(world, "annotated", asks(world, "w"))
    paused = app.invoke({"notes": []}, THREAD)
    with pytest.raises(BudgetExceededError, match="'worker'"):
        app.invoke(Command(resume={paused["__interrupt__"][0].id: None}), THREAD)
    assert world.server.log == ()


@pytest.mark.parametrize("answer", ["plenty", -5, True, 1.5])
def test_an_answer_that_is_no_number_is_asked_about_again(world: Any, answer: Any) -> None:
    """An answer cannot be taken back, so a wrong one must not stop the thread for good."""
    app = asking(world, "annotated", asks(world, "w"))
    app.invoke({"notes": []}, THREAD)
    again = app.invoke(Command(resume=answer), THREAD)
    assert "Resume with a number of tokens" in again["__interrupt__"][0].value["problem"]
    assert app.invoke(Command(resume=500), THREAD)["notes"] == ["w 1", "next"]
    assert world.manager.report()["worker"]["allocated"] == 510


def test_a_top_up_beside_the_question_also_helps(world: Any) -> None:
    """Somebody tops up instead of answering: `invoke(None)` goes on."""
    app = asking(world, "annotated", asks(world, "w"))
    app.invoke({"notes": []}, THREAD)
    world.manager.top_up("worker", 500)
    assert app.invoke(None, THREAD)["notes"] == ["w 1", "next"]


@pytest.mark.parametrize("way", WAYS)
def test_without_a_checkpointer_nobody_can_be_asked(world: Any, way: str) -> None:
    """The refusal is raised, and says what a pause needs."""
    builder = builder_of(world, way, asks(world, "w"), max_tokens=10, on_exceeded="ask")
    app = govern_graph(builder, world.manager)
    with pytest.raises(BudgetExceededError, match="needs a checkpointer"):
        app.invoke({"notes": []})


def test_an_agent_pauses_in_its_own_loop(world_of: Any) -> None:
    """In an agent the pause is at the model's step: earlier calls are not made again."""

    def script(request: Any) -> Answer:
        done = sum(role == "tool" for role, _ in request.messages)
        if done == 2:
            return Answer(text="Done.", output_tokens=80)
        return Answer(tool_calls=[ToolCall(name="look", arguments={})], output_tokens=80)

    world = world_of(script)
    builder = StateGraph(MessagesState)
    contract: dict[str, Any] = {"max_tokens": 250, "min_reserve": 0, "on_exceeded": "ask"}
    builder.add_node("n", looks(world), metadata=budget("agent", **contract))
    builder.add_edge(START, "n")
    app = govern_graph(builder, world.manager, checkpointer=InMemorySaver())
    paused = app.invoke({"messages": [HumanMessage("go")]}, THREAD)
    assert paused["__interrupt__"][0].value["agent_name"] == "agent"
    assert len(world.server.log) == 1
    result = app.invoke(Command(resume=1_000), THREAD)
    assert result["messages"][-1].content == "Done."
    assert len(world.server.log) == 3
    assert world.consumed == {"agent": world.server.billed_tokens}


def test_a_thread_is_asked_and_granted_on_its_own_books(world: Any) -> None:
    """With `scope_by="thread_id"` a grant helps the thread that asked, and no other."""
    builder = builder_of(world, "annotated", asks(world, "w"), max_tokens=10, on_exceeded="ask")
    app = govern_graph(builder, world.manager, scope_by="thread_id", checkpointer=InMemorySaver())
    for thread_id in ("one", "two"):
        paused = app.invoke({"notes": []}, {"configurable": {"thread_id": thread_id}})
        assert paused["__interrupt__"][0].value["scope"] == f"default/{thread_id}"
    app.invoke(Command(resume=500), {"configurable": {"thread_id": "one"}})
    assert world.manager.scope("default/one").report()["worker"]["allocated"] == 510
    assert world.manager.scope("default/two").report()["worker"]["allocated"] == 10
    assert app.get_state({"configurable": {"thread_id": "two"}}).next == ("work",)


def test_nodes_use_the_books_of_their_run(world: Any) -> None:
    """A budgeted node under `scope_by` ends by its thread's books, closing call included."""

    def closing(state: State) -> dict[str, list[str]]:
        world.chat(max_completion_tokens=10).invoke("sum up")
        return {"notes": ["closed"]}

    builder = builder_of(
        world,
        "budgeted",
        asks(world, "w", 99),
        closing=closing,
        max_tokens=300,
        min_reserve=100,
        on_exceeded="end",
    )
    app = govern_graph(builder, world.manager, scope_by="thread_id", checkpointer=InMemorySaver())
    assert app.invoke({"notes": []}, THREAD)["notes"] == ["closed", "next"]
    assert world.consumed == {}
    books = world.manager.scope("default/t")
    assert books.accounts()["worker"].consumed == world.server.billed_tokens
