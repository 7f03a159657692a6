"""`budgeted` around every kind of node: attributed, charged by the log, and still that node."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal, Optional, TypedDict

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, StreamWriter

from tbcontracts import (
    BudgetExceededError,
    ConfidenceGateError,
    ContractConflictError,
    UnknownAgentError,
)
from tbcontracts.errors import ConfigurationError
from tbcontracts.testing import Answer
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph import budget, budgeted, govern_graph, manager_of

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


class State(TypedDict):
    """What the graphs here pass on."""

    notes: Annotated[list[str], operator.add]


class Narrow(TypedDict):
    """A part of it."""

    notes: list[str]


class Writer:
    """Nodes that are methods, and an object that is one."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def method(self, state: State) -> dict[str, list[str]]:
        """Ask, as a method."""
        return {"notes": [str(self.model.invoke("hello").content)]}

    def __call__(self, state: State) -> dict[str, list[str]]:
        """Ask, as an object."""
        return self.method(state)


class AsyncWriter(Writer):
    """An object that is awaited."""

    async def __call__(self, state: State) -> dict[str, list[str]]:  # type: ignore[override]
        """Ask, awaited."""
        return {"notes": [str((await self.model.ainvoke("hello")).content)]}


def nodes(model: Any) -> dict[str, Any]:
    """Return one node of each kind that runs with `invoke` and `ainvoke`."""

    def plain(state: State) -> dict[str, list[str]]:
        return {"notes": [str(model.invoke("hello").content)]}

    def with_config(state: State, config: RunnableConfig) -> dict[str, list[str]]:
        return {"notes": [str(model.invoke("hello", config).content)]}

    def with_optional_config(
        state: State,
        config: Optional[RunnableConfig] = None,  # noqa: UP045 - as users spell it
    ) -> dict[str, list[str]]:
        return {"notes": [str(model.invoke("hello", config).content)]}

    def two(prompt: str, state: State) -> dict[str, list[str]]:
        return {"notes": [str(model.invoke(prompt).content)]}

    def generator(state: State) -> Iterator[dict[str, list[str]]]:
        yield {"notes": [str(model.invoke("hello").content)]}

    def returns_runnable(state: State) -> Any:
        return RunnableLambda(plain)

    inner = StateGraph(State)
    inner.add_node("deep", plain)
    inner.add_edge(START, "deep")
    return {
        "plain": plain,
        "with_config": with_config,
        "with_optional_config": with_optional_config,
        "partial": functools.partial(two, "hello"),
        "method": Writer(model).method,
        "object": Writer(model),
        "generator": generator,
        "lambda": lambda state: {"notes": [str(model.invoke("hello").content)]},
        "runnable": RunnableLambda(plain),
        "chain": RunnableLambda(lambda state: "hello") | model | (lambda said: {"notes": ["x"]}),
        "subgraph": inner.compile(),
        "returns_runnable": returns_runnable,
    }


def async_nodes(model: Any) -> dict[str, Any]:
    """Return one node of each kind that runs with `ainvoke` only."""

    async def coroutine(state: State) -> dict[str, list[str]]:
        return {"notes": [str((await model.ainvoke("hello")).content)]}

    async def generator(state: State) -> AsyncIterator[dict[str, list[str]]]:
        yield {"notes": [str((await model.ainvoke("hello")).content)]}

    async def gathers(state: State) -> dict[str, list[str]]:
        answers = await asyncio.gather(*(model.ainvoke("hello") for _ in range(1)))
        return {"notes": [str(answer.content) for answer in answers]}

    async def two(prompt: str, state: State) -> dict[str, list[str]]:
        return {"notes": [str((await model.ainvoke(prompt)).content)]}

    return {
        "coroutine": coroutine,
        "async generator": generator,
        "gathers": gathers,
        "async partial": functools.partial(two, "hello"),
        "async object": AsyncWriter(model),
    }


KINDS = tuple(nodes(RunnableLambda(str)))
ASYNC_KINDS = tuple(async_nodes(RunnableLambda(str)))


def alone(node: Any, **arguments: Any) -> StateGraph[State, None, State, State]:
    """Return a graph of one node, called "n"."""
    builder = StateGraph(State)
    builder.add_node("n", node, **arguments)
    builder.add_edge(START, "n")
    return builder


def run(app: Any, kind: str, way: str) -> Any:
    """Run a graph in one of its ways."""
    if kind in ASYNC_KINDS or way == "ainvoke":
        return asyncio.run(app.ainvoke({"notes": []}))
    return app.invoke({"notes": []})


def node_of(world: Any, kind: str) -> Any:
    """Return the node of a kind."""
    return {**nodes(world.model), **async_nodes(world.model)}[kind]


CASES = [
    *((kind, way) for kind in KINDS for way in ("invoke", "ainvoke")),
    *((kind, "ainvoke") for kind in ASYNC_KINDS),
]


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_a_node_of_every_kind_is_charged_by_the_log(world: Any, kind: str, way: str) -> None:
    """Without any other handler the call inside is on the agent's account, held once."""
    app = alone(budgeted(world.manager, "agent", max_tokens=9_000)(node_of(world, kind))).compile()
    result = run(app, kind, way)
    assert len(result["notes"]) == 1
    assert len(world.server.log) == 1
    assert world.consumed == {"agent": world.server.billed_tokens}
    assert world.held == 0
    assert [entry.kind for entry in world.manager.journal()] == ["opened", "held", "settled"]


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_a_node_of_every_kind_is_refused(world: Any, kind: str, way: str) -> None:
    """Nothing is sent, and the refusal comes out of the graph as itself."""
    app = alone(budgeted(world.manager, "agent", max_tokens=1)(node_of(world, kind))).compile()
    with pytest.raises(BudgetExceededError, match="'agent'"):
        run(app, kind, way)
    assert world.server.log == ()


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_a_node_of_every_kind_can_end(world: Any, kind: str, way: str) -> None:
    """Under "end" the node writes nothing and the graph finishes; the refusal is on the books."""
    wrapper = budgeted(world.manager, "agent", max_tokens=1, on_exceeded="end")
    app = alone(wrapper(node_of(world, kind))).compile()
    assert run(app, kind, way)["notes"] == []
    assert world.server.log == ()
    assert world.manager.accounts()["agent"].denials == 1


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_a_graphs_handler_one_call_is_one_hold(world: Any, kind: str, way: str) -> None:
    """The handler of the run, an annotation and the wrapper see one call; it is charged once."""
    node = budgeted(world.manager, "agent", max_tokens=9_000)(node_of(world, kind))
    builder = alone(node, metadata=budget("outer", max_tokens=9_000))
    app = govern_graph(builder, world.manager)
    config: Any = {"callbacks": budget_callbacks(world.manager)}
    if way == "invoke":
        app.invoke({"notes": []}, config)
    else:
        asyncio.run(app.ainvoke({"notes": []}, config))
    assert world.consumed == {"agent": world.server.billed_tokens}
    assert [entry.kind for entry in world.manager.journal()].count("held") == 1


def test_a_node_without_a_model_call_costs_nothing(world: Any) -> None:
    """The wrapper holds nothing: a node that only computes runs on an empty budget."""
    wrapper = budgeted(world.manager, "agent", max_tokens=0)
    app = alone(wrapper(lambda state: {"notes": ["computed"]})).compile()
    assert app.invoke({"notes": []})["notes"] == ["computed"]
    assert [entry.kind for entry in world.manager.journal()] == []


def test_what_langgraph_injects_is_injected(world: Any) -> None:
    """Runtime, store, writer and config reach the node as they do without a wrapper."""
    seen: dict[str, Any] = {}

    def node(
        state: State,
        config: RunnableConfig,
        runtime: Runtime[Any],
        *,
        store: BaseStore,
        writer: StreamWriter,
    ) -> dict[str, list[str]]:
        seen.update(config=config, runtime=runtime, store=store)
        writer({"said": "hello"})
        return {"notes": ["done"]}

    store = InMemoryStore()
    app = alone(budgeted(world.manager, "agent", max_tokens=9)(node)).compile(store=store)
    pieces = list(app.stream({"notes": []}, {"tags": ["mine"]}, stream_mode="custom"))
    assert pieces == [{"said": "hello"}]
    assert seen["store"] is store
    assert seen["runtime"].store is store
    assert seen["config"]["metadata"]["langgraph_node"] == "n"
    assert seen["config"]["metadata"]["tbcontracts"] == {"agent": "agent"}


def test_edges_and_schema_are_inferred_through_the_wrapper(world: Any) -> None:
    """`Command[Literal[...]]` draws its edges, and the first parameter's type is the input."""

    @budgeted(world.manager, "agent", max_tokens=9)
    def route(state: Narrow) -> Command[Literal["left", "right"]]:
        return Command(goto="right", update={"notes": ["routed"]})

    builder = StateGraph(State)
    builder.add_node(route)
    builder.add_node("left", lambda state: {"notes": ["left"]})
    builder.add_node("right", lambda state: {"notes": ["right"]})
    builder.add_edge(START, "route")
    assert builder.nodes["route"].ends == ("left", "right")
    assert builder.nodes["route"].input_schema is Narrow
    app = builder.compile()
    drawn = {(edge.source, edge.target) for edge in app.get_graph().edges}
    assert {("route", "left"), ("route", "right")} <= drawn
    assert app.invoke({"notes": []})["notes"] == ["routed", "right"]


@pytest.mark.parametrize("on_exceeded", ["raise", "end"])
def test_a_subgraph_stays_visible(world: Any, on_exceeded: Any) -> None:
    """A wrapped graph is still found by LangGraph, with its state while it is interrupted."""
    inner = StateGraph(State)
    inner.add_node("deep", lambda state: {"notes": ["deep"]})
    inner.add_edge(START, "deep")
    wrapped = budgeted(world.manager, "agent", max_tokens=9, on_exceeded=on_exceeded)(
        inner.compile(interrupt_before=["deep"])
    )
    app = alone(wrapped).compile(checkpointer=InMemorySaver())
    assert [name for name, _ in app.get_subgraphs()] == ["n"]
    config: Any = {"configurable": {"thread_id": "t"}}
    app.invoke({"notes": []}, config)
    state = app.get_state(config, subgraphs=True)
    assert state.tasks[0].state.next == ("deep",)  # type: ignore[union-attr]
    assert app.invoke(None, config)["notes"] == ["deep"]


def test_an_agent_as_a_node_is_charged_with_all_its_calls(world: Any) -> None:
    """`create_agent` under `budgeted`: its model's and its tools' calls are the agent's."""
    agent = create_agent(world.model, [], system_prompt="agent")
    builder = StateGraph(MessagesState)
    builder.add_node("n", budgeted(world.manager, "agent", max_tokens=9_000)(agent))
    builder.add_edge(START, "n")
    builder.compile().invoke({"messages": [HumanMessage("go")]})
    assert world.consumed == {"agent": world.server.billed_tokens}


def test_tasks_and_entrypoints_can_be_budgeted(world: Any) -> None:
    """The functional API: a task has its agent, the entrypoint around it another one."""
    world.manager.register_agent("whole", max_tokens=9_000)

    @task
    @budgeted(world.manager, "part", max_tokens=9_000)
    def part(topic: str, *, times: int = 1) -> str:
        answers = [world.model.invoke([("system", "part"), ("user", topic)])] * times
        return str(answers[0].content)

    @entrypoint(checkpointer=InMemorySaver())
    @budgeted(world.manager, "whole")
    def workflow(topic: str) -> str:
        first = part(topic, times=2).result()
        return str(world.model.invoke([("system", "whole"), ("user", first)]).content)

    config: Any = {"configurable": {"thread_id": "t"}}
    workflow.invoke("manholes", config)
    assert world.consumed == world.server.billed_by(lambda request: request.system_text)
    assert set(world.consumed) == {"part", "whole"}


def test_sent_workers_share_the_agents_budget(world_of: Any) -> None:
    """40 workers of 2,000 on 5,000 under `budgeted`: exactly 2 requests, books equal the log."""
    release = threading.Event()

    def answer(request: Any) -> Answer:
        return Answer(text="x", input_tokens=1_000, fill=True, hold=release)

    world = world_of(answer)
    model = world.chat(max_completion_tokens=1_000)
    refused: list[str] = []

    def closing(state: State, refusal: BudgetExceededError) -> dict[str, list[str]]:
        refused.append(refusal.agent_name)
        if len(refused) == 38:
            release.set()
        return {"notes": ["refused"]}

    contract: dict[str, Any] = {"max_tokens": 5_000, "min_reserve": 0, "on_exceeded": "end"}

    @budgeted(world.manager, "worker", closing=closing, **contract)
    def worker(state: State) -> dict[str, list[str]]:
        model.invoke("word " * 994)
        return {"notes": ["sent"]}

    builder = StateGraph(State)
    builder.add_node("plan", lambda state: {"notes": []})
    builder.add_node(worker)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges(
        "plan", lambda state: [Send("worker", state) for _ in range(40)], ["worker"]
    )
    result = builder.compile().invoke({"notes": []}, {"max_concurrency": 40})
    assert sorted(result["notes"]) == ["refused"] * 38 + ["sent"] * 2
    assert len(world.server.log) == 2
    assert world.consumed == {"worker": world.server.billed_tokens} == {"worker": 4_000}


def test_an_awaited_call_that_is_cancelled_leaves_no_hold(world_of: Any) -> None:
    """Where only the wrapper brought a handler, it hears of the node's end all the same."""
    release = threading.Event()
    world = world_of(lambda request: Answer(text="late", hold=release))

    @budgeted(world.manager, "agent", max_tokens=9_000)
    async def node(state: State) -> dict[str, list[str]]:
        await world.model.ainvoke("hello")
        return {"notes": []}

    async def main() -> None:
        running = asyncio.create_task(alone(node).compile().ainvoke({"notes": []}))
        await asyncio.to_thread(world.server.wait_for_requests, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    release.set()
    account = world.manager.accounts()["agent"]
    assert account.held == 0
    assert account.consumed == account.unmeasured > 0


# --- calls that nobody sees -----------------------------------------------------------------------


def test_a_providers_own_client_is_held_and_charged(world: Any) -> None:
    """With `usage_fn` the node is one call: held before it runs, charged what it says."""
    client = openai.OpenAI(base_url=world.server.base_url, api_key="x", max_retries=0)
    held: list[int] = []

    class Answered(State):
        used: int

    wrapper = budgeted(
        world.manager, "agent", max_tokens=2_000, usage_fn=lambda update: update["used"]
    )

    @wrapper
    def node(state: State) -> dict[str, Any]:
        held.append(world.held)
        reply = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
        )
        assert reply.usage is not None
        return {"notes": [reply.choices[0].message.content], "used": reply.usage.total_tokens}

    builder = StateGraph(Answered)
    builder.add_node("n", node)
    builder.add_edge(START, "n")
    app = builder.compile()
    app.invoke({"notes": [], "used": 0})
    assert held[0] > 0
    assert world.consumed == {"agent": world.server.billed_tokens}
    world.manager.change_contract("agent", max_tokens=world.server.billed_tokens)
    with pytest.raises(BudgetExceededError):
        app.invoke({"notes": [], "used": 0})
    assert len(world.server.log) == 1


# --- confidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [{"confidence_key": "answer.confidence"}, {"confidence_fn": lambda update: 0.9}],
    ids=["key", "function"],
)
@pytest.mark.parametrize("kind", ["sync", "async", "command"])
def test_a_score_closes_the_gate_after_the_node(world: Any, source: Any, kind: str) -> None:
    """What the node says of its work decides on its next call; good enough is not done again."""

    class Scored(State):
        answer: Any

    def update() -> dict[str, Any]:
        world.model.invoke("hello")
        return {"notes": ["done"], "answer": {"confidence": 0.9}}

    def plain(state: Scored) -> dict[str, Any]:
        return update()

    async def awaited(state: Scored, config: RunnableConfig) -> dict[str, Any]:
        return update()

    def command(state: Scored) -> Command[Any]:
        return Command(update=update())

    node: Any = {"sync": plain, "async": awaited, "command": command}[kind]
    wrapper = budgeted(world.manager, "agent", max_tokens=9_000, confidence_threshold=0.8, **source)
    builder = StateGraph(Scored)
    builder.add_node("n", wrapper(node))
    builder.add_edge(START, "n")
    app = builder.compile()
    asyncio.run(app.ainvoke({"notes": [], "answer": None}))
    with pytest.raises(ConfidenceGateError):
        asyncio.run(app.ainvoke({"notes": [], "answer": None}))
    assert len(world.server.log) == 1


@pytest.mark.parametrize("place", ["annotation", "file", "pattern"])
def test_a_contract_may_name_the_score(world: Any, place: str) -> None:
    """As plain data, in the annotation of a node or in a file; no wrapper is needed."""

    class Scored(State):
        answer: Any

    def node(state: Scored) -> dict[str, Any]:
        world.model.invoke("hello")
        return {"notes": ["done"], "answer": {"confidence": 0.9}}

    terms: dict[str, Any] = {
        "max_tokens": 9_000,
        "confidence_threshold": 0.8,
        "confidence_key": "answer.confidence",
    }
    annotated = budget(**terms) if place == "annotation" else None
    name = "age*" if place == "pattern" else "agent"
    builder = StateGraph(Scored)
    builder.add_node("agent", node, metadata=annotated)
    builder.add_edge(START, "agent")
    app = govern_graph(builder, {"agents": {} if annotated else {name: terms}})
    app.invoke({"notes": []})
    assert manager_of(app).accounts()["agent"].confidence == 0.9
    with pytest.raises(ConfidenceGateError):
        app.invoke({"notes": []})
    assert len(world.server.log) == 1


def test_only_one_source_of_a_score(world: Any) -> None:
    """A key and a function together are a mistake."""
    with pytest.raises(ConfigurationError, match="one of them is enough"):
        budgeted(
            world.manager, "a", max_tokens=9, confidence_key="x", confidence_fn=lambda update: 1
        )


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_are_checked_where_they_are_written(world: Any) -> None:
    """Mistakes are told at set-up, not in the middle of a run."""
    manager = world.manager
    with pytest.raises(UnknownAgentError):
        budgeted(manager, "nobody")
    with pytest.raises(TypeError, match="BudgetManager"):
        budgeted(None, "a")  # type: ignore[arg-type]
    manager.register_agent("a", max_tokens=10)
    with pytest.raises(ValueError, match="on_exceeded"):
        budgeted(manager, "a", on_exceeded="stop")
    with pytest.raises(TypeError, match="fallback of agent 'a'"):
        budgeted(manager, "a", on_exceeded={"fallback": 7})
    with pytest.raises(TypeError, match="closing of agent 'a'"):
        budgeted(manager, "a", closing="sum up")
    with pytest.raises(ContractConflictError):
        budgeted(manager, "a", max_tokens=11)
    with pytest.raises(TypeError, match="takes a function or a runnable"):
        budgeted(manager, "a")(7)


@pytest.mark.skipif(not LOSES_CONTEXT, reason="Python 3.11 and later hand the context on")
def test_on_python_3_10_an_awaited_node_is_metered(world: Any) -> None:
    """Where LangGraph loses the context of an awaited node, `budgeted` puts it back."""
    node = async_nodes(world.model)["coroutine"]
    bare = govern_graph(alone(node, metadata=budget("agent", max_tokens=9_000)), world.manager)
    asyncio.run(bare.ainvoke({"notes": []}))
    assert world.consumed == {}
    app = alone(budgeted(world.manager, "agent")(node)).compile()
    asyncio.run(app.ainvoke({"notes": []}))
    assert world.consumed == {"agent": world.server.log[-1].billed_tokens}
