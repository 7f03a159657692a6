"""`tbc doctor --graph` and `--crew`: which agents an application has, and their contracts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.core.cli.conftest import Run
from tests.core.cli.test_command import started

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


ODD = """
import os, sys
from langgraph.graph import MessagesState, StateGraph

unfinished = StateGraph(MessagesState)
number = 3

class Holder:
    app = None

holder = Holder

def needs(argument): return argument
def fails(): raise RuntimeError("two\\nlines.")
def quits(): sys.exit(0)
async def later(): return None
def nothing(): return None
"""


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("odd:number", "odd:number: agents_of takes a graph, not int."),
        ("odd:nothing", "odd:nothing: agents_of takes a graph, not NoneType."),
        ("odd:unfinished", "'odd:unfinished' cannot be looked at: ValueError: Graph must have an"),
        ("odd:needs", "'odd:needs' could not be made: TypeError: needs() missing 1 required"),
        ("odd:fails", "'odd:fails' could not be made: RuntimeError: two lines. What helps: the"),
        ("odd:quits", "'odd:quits' could not be made: it ends the program (SystemExit: 0). What"),
        ("odd:later", "'odd:later' must be awaited, and a command does not. What helps: the app"),
        ("odd:holder.ap", "'odd.holder' has no 'ap'. Did you mean 'app'? What helps: the name"),
        ("ended:app", "'ended' cannot be imported: it ends the program (SystemExit: 0). What"),
        ("broken:app", "'broken' cannot be imported: SyntaxError: "),
        (
            "lacking:app",
            "'lacking' cannot be imported: ModuleNotFoundError: No module named",
        ),
        ("none:app", "'none' cannot be imported: ModuleNotFoundError: No module named 'none'."),
        ("odd", "'odd' is no application: what is needed is module:name."),
        ("odd.py:number", "'odd.py:number' names a file, and what is needed is a module."),
        ("./a/b.py:app", "What helps: a.b:app, in the folder in which that can be imported."),
        (".odd:app", "What helps: odd:app, in the folder in which that can be imported."),
    ],
)
def test_what_is_no_application_is_said(target: str, said: str, run: Run) -> None:
    """Exit code 2, whatever the application does; one that ends the program finds nothing good."""
    Path("odd.py").write_text(ODD, encoding="utf-8")
    Path("ended.py").write_text("raise SystemExit(0)", encoding="utf-8")
    Path("broken.py").write_text("def app(:", encoding="utf-8")
    Path("lacking.py").write_text("import zz_not_there", encoding="utf-8")
    try:
        for more in ((), ("--json",)):
            result = run("doctor", "--graph", target, *more)
            assert (result.code, result.out) == (2, "")
            assert said in result.err
            assert result.err.startswith("tbc: ")
            assert result.err.count("\n") == 1
    finally:
        for name in ("odd", "ended", "broken", "lacking"):
            sys.modules.pop(name, None)


NOISE = """
import os, subprocess, sys
print("printed")
os.write(1, b"written to the descriptor\\n")
subprocess.run([sys.executable, "-c", "print('by a child')"])
from graph_here import build
def app():
    print("printed by a factory")
    return build(write=1)
"""


def test_an_application_that_prints_spoils_no_json(tmp_path: Path) -> None:
    """Not from Python, not beneath it, not from a process of its own; and nothing is lost."""
    (tmp_path / "noise.py").write_text(NOISE, encoding="utf-8")
    done = started("doctor", "--graph", "noise:app", "--json", folder=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["noise:app"]["agents"][0]["name"] == "write"
    for said in (b"printed\n", b"to the descriptor", b"by a child", b"by a factory"):
        assert said in done.stderr


@pytest.mark.parametrize(
    ("registered", "said"),
    [
        ((), "lists the agents of a 'graph': none is registered. What helps: to install"),
        (("crew",), "lists the agents of a 'graph': registered are 'crew'. What helps: to install"),
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
