"""Paths and names that are assigned to agents: which counts, and what is warned of."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from tests.integrations.langchain.attribution.conftest import (
    ASK,
    State,
    ask,
    asks,
    by_system,
    chat,
    consumed,
    manager_for,
    one_node,
    run,
    supervised,
)

from tbcontracts import BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_langchain import BudgetCallbackHandler
from tbcontracts_langchain.attribution import AgentPaths, agent_in_path
from tbcontracts_langgraph import budget


def test_paths_can_be_assigned_to_agents(server: FakeOpenAI) -> None:
    """What is said of a node holds for all below it, before names and annotations."""
    manager = manager_for("lead", "crew", "alpha", "beta")
    agents = {"supervisor": "lead", "team/*": "crew", "alpha": "lead"}
    run(supervised(server), manager, ASK, agents=agents)
    billed = by_system(server)
    assert consumed(manager) == {
        "lead": billed["supervisor"] + billed["alpha"],
        "crew": billed["inner_sup"] + billed["beta"],
    }


def test_an_assigned_agent_without_a_contract_is_warned_of(server: FakeOpenAI) -> None:
    """A slip in the mapping is told, with the nearest name; the call is tracked on its own line."""
    manager = manager_for("researcher")
    graph = one_node("one", asks(chat(server), "x"))
    with pytest.warns(UserWarning, match="nearest contract is 'researcher'"):
        run(graph, manager, agents={"one": "reseacher"})
    assert manager.accounts()["reseacher"].consumed == server.billed_tokens


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        ("research", "exact"),
        ("research/model", "below"),
        ("research/deep/model", "below"),
        ("team/research", "pattern"),
        ("team/write/model", "team"),
        ("writer2/model", "writer"),
        ("other", None),
        ("", None),
    ],
)
def test_which_pattern_counts(path: str, agent: str | None) -> None:
    """The longest path that is found, as it stands before patterns, patterns in their order."""
    paths = AgentPaths(
        {
            "research": "exact",
            "research/*": "below",
            "*/research": "pattern",
            "team": "team",
            "writer?": "writer",
            "writer2": "writer",
        }
    )
    assert paths.agent_of(tuple(filter(None, path.split("/")))) == agent


@pytest.mark.parametrize("agents", [["a"], "a", {"a": 1}, {1: "a"}, {"a": ""}, {"": "a"}])
def test_wrong_mappings_are_told(agents: Any) -> None:
    """At set-up, with what is wrong."""
    with pytest.raises(TypeError, match="agents"):
        BudgetCallbackHandler(BudgetManager(), agents=agents)


def test_handlers_with_other_mappings_are_others() -> None:
    """LangChain tells only one of two equal handlers; the order of patterns matters."""
    manager = BudgetManager()
    one = BudgetCallbackHandler(manager, agents={"a": "x", "*": "y"})
    assert one == BudgetCallbackHandler(manager, agents={"a": "x", "*": "y"})
    assert one != BudgetCallbackHandler(manager, agents={"*": "y", "a": "x"})
    assert one != BudgetCallbackHandler(manager)


@pytest.mark.parametrize(
    ("path", "agent"),
    [
        (("research_1",), "research_1"),
        (("team", "research_1", "model"), "research_1"),
        (("research_team", "research_1"), "research_1"),
        (("team", "special"), "special"),
        (("writer", "research_1"), "writer"),
        (("other", "deeper", "model"), "other"),
        (("eu", "x"), "eu/x"),
        ((), None),
    ],
)
@pytest.mark.parametrize("seen", [False, True])
def test_names_in_a_path_come_before_patterns(
    path: tuple[str, ...], agent: str | None, seen: bool
) -> None:
    """Then the most specific pattern; `*` is the outermost node, whoever was seen before."""
    manager = manager_for("writer")
    manager.register_agent("special", max_tokens=1)
    manager.register_pattern("*", max_tokens=10)
    manager.register_pattern("research_*", max_tokens=10)
    manager.register_pattern("eu/*", max_tokens=10)
    if seen:
        for name in ("model", "deeper", "team", "research_team"):
            manager.record_usage(name, 1)
    assert agent_in_path(path, manager) == agent


def test_patterns_are_found_in_the_order_of_names(server: FakeOpenAI) -> None:
    """Annotation, current agent, path: each may be found by pattern."""
    model = chat(server)
    manager = manager_for("writer")
    manager.register_pattern("p_*", max_tokens=10_000)

    def acts(state: State) -> dict[str, list[str]]:
        with manager.acting_as("p_acting"):
            return {"notes": [ask(model, "p_acting")]}

    builder = StateGraph(State)
    builder.add_node("writer", asks(model, "p_annotated"), metadata=budget("p_annotated"))
    builder.add_node("p_path", asks(model, "p_path"))
    builder.add_node("acts", acts)
    builder.add_node("nobody", asks(model, "nobody"))
    for one, other in zip(
        (START, "writer", "p_path", "acts"), ("writer", "p_path", "acts", "nobody"), strict=True
    ):
        builder.add_edge(one, other)
    with pytest.warns(UserWarning, match="'nobody' has no contract"):
        run(builder.compile(), manager)
    assert consumed(manager) == by_system(server)
    assert manager.accounts()["nobody"].contract is None
