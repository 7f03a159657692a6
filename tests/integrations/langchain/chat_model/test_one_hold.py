"""A budgeted model in runs, nodes and callbacks: one hold, and its own agent pays."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, StateGraph
from tests.integrations.langchain.chat_model.conftest import assert_true, chat, governed
from typing_extensions import TypedDict

from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import BudgetedChatModel, budget_callbacks


class State(TypedDict):
    """What the graphs of these tests hand on: nothing."""

    done: bool


@pytest.mark.parametrize("with_callbacks", [True, False])
def test_with_the_runs_own_callbacks_it_is_one_hold(
    server: FakeOpenAI, with_callbacks: bool
) -> None:
    """The handler of the run and that of the model are one."""
    manager, model = governed(server, max_completion_tokens=50)
    config: Any = {"callbacks": budget_callbacks(manager)} if with_callbacks else {}
    model.invoke("hello", config)
    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]
    assert_true(manager, server)


def test_it_works_where_callbacks_do_not_reach(server: FakeOpenAI) -> None:
    """Plain threads and a direct generate inside a node: every call is on the books."""
    manager, model = governed(server, max_completion_tokens=50)

    def node(state: State) -> State:
        thread = threading.Thread(target=model.invoke, args=("one",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(model.invoke, ["two", "three"]))
        model.generate([[HumanMessage("four")], [HumanMessage("five")]])
        return state

    builder: Any = StateGraph(State)
    builder.add_node("n", node)
    builder.add_edge(START, "n")
    builder.add_edge("n", END)
    builder.compile().invoke({"done": False}, {"callbacks": budget_callbacks(manager)})
    assert len(server.log) == 5
    assert_true(manager, server)


def test_a_direct_generate_belongs_to_the_node_that_makes_it(server: FakeOpenAI) -> None:
    """Without a named agent, the metadata of the node around says who pays."""
    manager, _ = governed(server)
    model = BudgetedChatModel(inner=chat(server, max_completion_tokens=50), manager=manager)

    def node(state: State) -> State:
        model.generate([[HumanMessage("hello")]])
        return state

    builder: Any = StateGraph(State)
    builder.add_node("n", node, metadata={"tbcontracts": {"agent": "a"}})
    builder.add_edge(START, "n")
    builder.compile().invoke({"done": False})
    assert_true(manager, server)


def test_its_agent_comes_before_every_other_name(server: FakeOpenAI) -> None:
    """Who was named to the model pays, whatever the run around is annotated with."""
    manager, model = governed(server, max_completion_tokens=50)
    manager.register_agent("other", max_tokens=5_000)
    config: Any = {
        "callbacks": budget_callbacks(manager),
        "metadata": {"tbcontracts": {"agent": "other"}, "lc_agent_name": "other"},
    }
    with manager.acting_as("other"):
        model.invoke("hello", config)
    assert manager.accounts()["other"].consumed == 0
    assert_true(manager, server)
