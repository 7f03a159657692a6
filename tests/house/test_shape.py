"""The shape of the code: small files, small functions, and every package in its layer."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(
    path
    for folder in ("core", "integrations", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def long_functions(source: str) -> list[str]:
    """Return the functions that no screen shows whole."""
    return [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]


@pytest.mark.parametrize("path", PRODUCT + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small(path: Path) -> None:
    """A file has at most 400 lines, of the product as of its tests: one topic."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_small(path: Path) -> None:
    """A function of the product has at most 70 lines: one thought, seen whole."""
    assert long_functions(path.read_text(encoding="utf-8")) == []


def test_a_planted_long_function_is_found() -> None:
    """71 lines are found, 70 are not."""
    source = "def long():\n" + "    pass\n" * 70 + "async def short():\n" + "    pass\n" * 69
    assert long_functions(source) == ["long (71 lines)"]


def faults_of_layers(pyproject: dict[str, Any], folders: set[str]) -> list[str]:
    """Return what the layer checks would not see.

    Args:
        pyproject: The project's settings.
        folders: The names of its packages.
    """
    linter = pyproject["tool"]["importlinter"]
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    faults = []
    if set(linter["root_packages"]) != folders:
        faults.append("root_packages are not the packages")
    if {Path(package).name for package in wheel} != folders:
        faults.append("the wheel does not hold the packages")
    layered = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    stacked = {
        name.strip()
        for contract in layered
        if "containers" not in contract
        for layer in contract["layers"]
        for name in layer.replace(":", "|").split("|")
    }
    faults += [f"{name} stands in no layer" for name in sorted(folders - stacked)]
    inside = [contract for contract in layered if contract.get("containers") == ["tbcontracts"]]
    if not any(contract.get("exhaustive") for contract in inside):
        faults.append("a new module of the core may stand outside the layers")
    return faults


def test_every_package_stands_in_a_layer() -> None:
    """import-linter knows all packages, and new modules of the core cannot slip past it."""
    folders = {path.parent.name for path in ROOT.glob("*/tbcontracts*/__init__.py")}
    assert faults_of_layers(PYPROJECT, folders) == []


def test_planted_gaps_in_the_layers_are_found() -> None:
    """A package that nobody listed is reported, and so is a core that need not be complete."""
    contract = {"type": "layers", "containers": ["tbcontracts"], "layers": ["a | b"]}
    planted = {
        "tool": {
            "importlinter": {"root_packages": ["tbcontracts"], "contracts": [contract]},
            "hatch": {"build": {"targets": {"wheel": {"packages": ["core/tbcontracts"]}}}},
        }
    }
    assert faults_of_layers(planted, {"tbcontracts", "tbcontracts_new"}) == [
        "root_packages are not the packages",
        "the wheel does not hold the packages",
        "tbcontracts stands in no layer",
        "tbcontracts_new stands in no layer",
        "a new module of the core may stand outside the layers",
    ]


def test_every_package_says_that_it_is_typed() -> None:
    """A `py.typed` marks each package, so that users' checkers read its types."""
    packages = [path.parent for path in ROOT.glob("*/tbcontracts*/__init__.py")]
    assert packages
    assert [package for package in packages if not (package / "py.typed").exists()] == []


def test_the_typing_examples_are_checked() -> None:
    """Mypy and pyright both read `tests/typing`, whose files are never run."""
    assert list((ROOT / "tests" / "typing").glob("*.py"))
    assert "tests" in PYPROJECT["tool"]["mypy"]["files"]
    assert "tests/typing" in PYPROJECT["tool"]["pyright"]["include"]
