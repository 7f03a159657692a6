"""A budget that ends its node: the closing call, the reserve, what was done so far."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from tests.integrations.langgraph.budget_ends.nodes import WAYS, State, asks, builder_of, looks

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, ToolCall
from tbcontracts_langgraph import budget, budgeted, govern_graph

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


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
