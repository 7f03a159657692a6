"""`tbc doctor --graph` and `--crew`: which agents an application has, and their contracts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run

from tbcontracts.cli import applications, doctor

pytest.importorskip("langgraph")

GRAPH = """
print("a line that an application prints")
from langgraph.graph import START, MessagesState, StateGraph

def build(**names):
    builder = StateGraph(MessagesState)
    for name in names:
        builder.add_node(name, lambda state: state)
        builder.add_edge(START, name)
    return builder.compile()

app = build(write=1)
"""


@pytest.fixture(autouse=True)
def _modules(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a graph and two contract files into the folder in which the command runs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("graph_here.py").write_text(GRAPH, encoding="utf-8")
    for name in ("write", "writer"):
        text = f"[agents.{name}]\nmax_tokens = 9\n"
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    yield
    sys.modules.pop("graph_here", None)


def test_all_is_well(run: Run) -> None:
    """A table, a good word, and 0; what the application prints is no part of it."""
    result = run("doctor", "--graph", "graph_here:app", "--contracts", "write.toml")
    assert result.code == 0
    assert result.out.splitlines() == [
        "agent  where  contract  found by",
        "write  write  write     node",
        "",
        "Each agent has a contract, and each contract an agent.",
    ]
    assert "a line that" in result.err


def test_findings_are_an_exit_code(run: Run) -> None:
    """A misspelt contract is told with the nearest agent, as text and as JSON."""
    asked = ("doctor", "--graph", "graph_here:app", "--contracts", "writer.toml")
    said = "No agent here is called 'writer' (nearest: 'write'): nobody uses that budget."
    result = run(*asked)
    assert result.code == 1
    assert result.out.splitlines()[-1] == said
    listed = run(*asked, "--json")
    assert listed.code == 1
    assert listed.json["graph_here:app"]["findings"] == [said]
    assert listed.json["graph_here:app"]["unmatched"][0]["nearest"] == "write"


def test_wrong_use_is_said(run: Run) -> None:
    """A file without an application, an application that is not there, a file that is none."""
    for arguments, said in (
        (("--contracts", "write.toml"), "goes with --graph or --crew"),
        (("--graph", "graph_here:ap"), "Did you mean 'app'?"),
        (("--graph", "graph_here:app", "--contracts", "none.toml"), "none.toml"),
    ):
        result = run("doctor", *arguments)
        assert result.code == 2
        assert said in result.err


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        ((), "lists the agents of a 'graph': none does. What helps: to install"),
        (("crew",), "lists the agents of a 'graph': only those of 'crew'. What helps: to install"),
    ],
)
def test_an_installation_without_integrations(
    registered: tuple[str, ...], said: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is registered is said, and that nothing is: no sentence has a hole in it."""
    points = [EntryPoint(name, "x:y", applications.GROUP) for name in registered]
    monkeypatch.setattr(applications, "entry_points", lambda group: points if group else ())
    result = run("doctor", "--graph", "graph_here:app")
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_an_installation_that_does_not_say_what_it_needs(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout on PYTHONPATH has no metadata: that is said in the place of an empty table."""
    monkeypatch.setattr(doctor, "packages", list)
    monkeypatch.setattr(doctor, "version_of", lambda _: None)
    result = run("doctor")
    assert result.out.startswith("tbcontracts (not installed by pip) on ")
    assert "What its extras need is not known" in result.out
    assert run("doctor", "--json").json["packages"] == []
