"""A budget that asks: the run pauses, and goes on with what is granted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from tests.integrations.langgraph.budget_ends.nodes import (
    THREAD,
    WAYS,
    State,
    asks,
    builder_of,
    looks,
)

from tbcontracts import BudgetExceededError
from tbcontracts.testing import Answer, ToolCall
from tbcontracts_langgraph import budget, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


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
