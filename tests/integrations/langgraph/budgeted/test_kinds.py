"""`budgeted` around every kind of node: attributed, charged by the log, refused, ended."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, Optional

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, StateGraph
from tests.integrations.langgraph.budgeted.nodes import State, alone

from tbcontracts import BudgetExceededError
from tbcontracts_langchain import budget_callbacks
from tbcontracts_langchain.context import LOSES_CONTEXT
from tbcontracts_langgraph import budget, budgeted, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


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
