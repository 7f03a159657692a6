"""A budget that falls back: to a node, a function or a cheaper model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from tests.integrations.langgraph.budget_ends.nodes import WAYS, State, asks, builder_of

from tbcontracts import BudgetExceededError
from tbcontracts.errors import ConfigurationError
from tbcontracts_langgraph import budget, budgeted, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


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
