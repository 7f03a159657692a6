"""Budgeted nodes in their graphs: what is injected, inferred, sent, nested and cancelled."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Literal, TypedDict

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, StreamWriter
from tests.integrations.langgraph.budgeted.nodes import State, alone

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer
from tbcontracts_langgraph import budgeted

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


class Narrow(TypedDict):
    """A part of it."""

    notes: list[str]


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
