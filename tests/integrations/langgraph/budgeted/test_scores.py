"""Scores of budgeted nodes: they close the gate."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from tests.integrations.langgraph.budgeted.nodes import State

from tbcontracts import ConfidenceGateError
from tbcontracts.errors import ConfigurationError
from tbcontracts_langgraph import budget, budgeted, govern_graph, manager_of

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


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
