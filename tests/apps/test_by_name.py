"""Applications found by `module:name`, as `tbc doctor` looks at them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tbcontracts.cli.applications import roster_of
from tbcontracts.errors import ConfigurationError

GRAPH = """
from langgraph.graph import START, MessagesState, StateGraph

def write(state):
    return state

builder = StateGraph(MessagesState)
builder.add_node("write", write)
builder.add_edge(START, "write")
app = builder.compile()

def make():
    return app

def needs(argument):
    return app

class Holder:
    app = app
"""
CREW = """
from types import SimpleNamespace
from crewai import Agent, Crew

class Project:
    agents_config = {"editor": {"role": "Editor\\n", "budget": {"max_tokens": 500}}}

    def crew(self):
        return Crew(agents=[Agent(role="Editor", goal="g", backstory="b")], tasks=[])
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with modules, of which nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    for name, text in {"graphs_here": GRAPH, "crews_here": CREW, "broken_here": "1 / 0"}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    text = "[agents.write]\nmax_tokens = 9\n"
    (tmp_path / "budget.toml").write_text(text, encoding="utf-8")
    yield tmp_path
    for name in ("graphs_here", "crews_here", "broken_here"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["app", "builder", "make", "Holder.app"])
def test_a_graph_is_found_by_its_name(name: str) -> None:
    """The app, its builder, a function that makes it, or an attribute of something."""
    (found,) = roster_of("graph", f"graphs_here:{name}", "budget.toml").agents
    assert (found.name, found.contract, found.rule) == ("write", "write", "node")
    assert roster_of("graph", f"graphs_here:{name}").agents[0].contract is None


@pytest.mark.skipif(find_spec("crewai") is None, reason="CrewAI is not installed")
def test_a_project_of_crewai_brings_its_budgets() -> None:
    """Of a `@CrewBase` class its crew, with the `budget:` blocks of agents.yaml."""
    (found,) = roster_of("crew", "crews_here:Project").agents
    assert (found.name, found.contract, found.rule) == ("Editor", "Editor", "role")


@pytest.mark.parametrize(
    ("kind", "target", "said"),
    [
        ("graph", "graphs_here", "what is needed is module:name"),
        ("graph", "graph_here:app", "'graph_here' cannot be imported: ModuleNotFoundError"),
        ("graph", "broken_here:app", "cannot be imported: ZeroDivisionError: division by zero"),
        ("graph", "graphs_here:ap", "has no 'ap'. Did you mean 'app'?"),
        ("graph", "graphs_here:needs", "could not be made: TypeError: needs()"),
        ("graph", "graphs_here:MessagesState", "agents_of takes a graph, not"),
        ("flock", "graphs_here:app", "No integration lists the agents of a 'flock'"),
    ],
)
def test_what_is_not_there_is_said(kind: str, target: str, said: str) -> None:
    """Which part of the name is wrong, and what helps."""
    with pytest.raises(ConfigurationError, match="What helps") as refused:
        roster_of(kind, target)
    assert said in str(refused.value)
