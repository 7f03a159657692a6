"""The applications are what people write: of ours they have the two lines of the guide."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

APPLICATIONS = sorted((Path(__file__).parent / "applications").rglob("*.py"))
GUIDE = {"tbcontracts_langgraph": "govern_graph", "tbcontracts_crewai": "govern_crew"}


def ours_in(source: str) -> list[str]:
    """Return what a module has of ours, in the order of its lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("tbc", "tests")):
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [(node.lineno, name) for name in names if name.startswith(("tbc", "tests"))]
        elif isinstance(node, ast.Name) and node.id in GUIDE.values():
            found.append((node.lineno, node.id))
    return [what for _, what in sorted(found)]


def two_lines() -> list[list[str]]:
    """Return what the guide has an application say: one import, and one use of it."""
    return [[f"{package}.{name}", name] for package, name in GUIDE.items()]


@pytest.mark.parametrize("path", APPLICATIONS, ids=lambda path: path.stem)
def test_an_application_has_nothing_of_ours_but_two_lines(path: Path) -> None:
    """It imports the function of the guide, and calls it in one place."""
    assert ours_in(path.read_text(encoding="utf-8")) in two_lines()


def test_a_third_line_is_found() -> None:
    """An import of anything else of ours, or a second call, is seen."""
    lines = "from tbcontracts_langgraph import govern_graph\napp = govern_graph(g, m)\n"
    assert ours_in(lines) in two_lines()
    assert ours_in("import tbcontracts\n" + lines) not in two_lines()
    assert ours_in(lines + "again = govern_graph(g, m)\n") not in two_lines()
