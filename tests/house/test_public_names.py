"""The public names: listed in order, there to import, described, and typed to the last one."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

PACKAGES = (
    "tbcontracts",
    "tbcontracts.report",
    "tbcontracts.stores",
    "tbcontracts.testing",
    "tbcontracts_crewai",
    "tbcontracts_langchain",
    "tbcontracts_langgraph",
)
OURS = "tbcontracts"


def imported(package: str) -> ModuleType:
    """Import a package and all that it looks up late; what a framework warns of is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module(package)
        for name in module.__all__:
            getattr(module, name, None)
    return module


def faults_of_list(module: ModuleType) -> list[str]:
    """Return what is wrong with a module's list of public names."""
    names = list(module.__all__)
    faults = [] if names == sorted(set(names)) else [f"{module.__name__}.__all__ is not in order"]
    for name in names:
        if name.startswith("_"):
            faults.append(f"{module.__name__}.{name} is private")
        elif not hasattr(module, name):
            faults.append(f"{module.__name__}.{name} is not there")
    return faults


def undocumented(value: Any, name: str) -> list[str]:
    """Return the names without a description among a public value and what it is made of."""
    if not isinstance(value, type):
        return [name] if inspect.isroutine(value) and not inspect.getdoc(value) else []
    if not value.__module__.startswith(OURS):
        return []
    missing = [] if value.__doc__ and value.__doc__.strip() else [name]
    missing += [f"{name}.{member}" for member in undocumented_members(value)]
    return sorted(missing + [f"{name}.{field}" for field in undocumented_fields(value)])


def undocumented_members(cls: type) -> Iterator[str]:
    """Yield the public methods and properties that say nothing of themselves."""
    for owner in cls.__mro__:
        if not owner.__module__.startswith(OURS):
            continue
        for member, value in vars(owner).items():
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            described = isinstance(plain, (FunctionType, property))
            if not member.startswith("_") and described and not inspect.getdoc(plain):
                yield member


def undocumented_fields(cls: type) -> Iterator[str]:
    """Yield the fields of a dataclass or named tuple that no text stands below."""
    if not is_dataclass(cls) and not hasattr(cls, "_fields"):
        return
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        described = (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        )
        if not described and not statement.target.id.startswith("_"):
            yield statement.target.id


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_listed_in_order_and_exist(package: str) -> None:
    """`__all__` is sorted, without repeats, and everything in it can be imported."""
    assert faults_of_list(imported(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_is_described(package: str) -> None:
    """Each public class, function, method, property and field says what it is."""
    module = imported(package)
    missing = [
        found
        for name in module.__all__
        for found in undocumented(getattr(module, name), f"{package}.{name}")
    ]
    assert missing == []


def test_the_fixed_names_are_there() -> None:
    """What users import from the core by name is exactly what it offers."""
    import tbcontracts

    for name in tbcontracts.__all__:
        assert getattr(tbcontracts, name).__module__.startswith(OURS)
    assert tbcontracts.__version__


PLANTED = '''
"""A module with one fault of each kind."""
from dataclasses import dataclass

__all__ = ["Zebra", "_hidden", "Ape", "gone"]

_hidden = 1

class Zebra:
    def silent(self) -> None: ...

    @property
    def mute(self) -> int:
        return 1

@dataclass
class Ape:
    """An ape."""
    described: int
    """How it is."""
    nameless: int
'''


def test_planted_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list out of order, a private and a missing name, and what is not described."""
    (tmp_path / "tbcontracts_planted.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("tbcontracts_planted")
    assert faults_of_list(module) == [
        "tbcontracts_planted.__all__ is not in order",
        "tbcontracts_planted._hidden is private",
        "tbcontracts_planted.gone is not there",
    ]
    assert undocumented(module.Zebra, "Zebra") == ["Zebra", "Zebra.mute", "Zebra.silent"]
    assert undocumented(module.Ape, "Ape") == ["Ape.nameless"]


@cache
def symbols_of(package: str, folder: Path, python_path: str) -> list[dict[str, Any]]:
    """Have pyright report every symbol of a package, as a user's type checker sees it."""
    environment = dict(os.environ)
    # pyright looks for packages where the first Python of PATH has them.
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment["PATH"]))
    environment["PYTHONPATH"] = python_path
    arguments = ("--verifytypes", package, "--ignoreexternal", "--outputjson")
    run = subprocess.run(
        [sys.executable, "-m", "pyright", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    symbols: list[dict[str, Any]] = json.loads(run.stdout)["typeCompleteness"]["symbols"]
    assert symbols, run.stdout
    return symbols


def without_type(symbols: list[dict[str, Any]], names: set[str]) -> list[str]:
    """Return the public names whose type is unknown, or left to each checker's guess."""
    seen = {symbol["name"]: symbol for symbol in symbols}
    return sorted(
        name for name in names if not seen[name]["isTypeKnown"] or seen[name]["isTypeAmbiguous"]
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_surface_is_typed(
    package: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every public name has a known type, with everything that can be reached through it."""
    folder = tmp_path_factory.getbasetemp()  # no project around: what a user's editor sees
    symbols = symbols_of(package.split(".", maxsplit=1)[0], folder, "")
    module = imported(package)
    assert without_type(symbols, {f"{package}.{name}" for name in module.__all__}) == []


def test_a_planted_untyped_name_is_found(tmp_path: Path) -> None:
    """A parameter without a type, and an attribute that only a guess gives a type."""
    package = tmp_path / "lib" / "planted"
    package.mkdir(parents=True)
    (package / "py.typed").touch()
    (package / "__init__.py").write_text(
        "from .inner import Guessed as Guessed, Typed as Typed, untyped as untyped\n", "utf-8"
    )
    (package / "inner.py").write_text(
        "class Typed:\n    def __init__(self) -> None:\n        self.size: int = 1\n"
        "class Guessed:\n    def __init__(self) -> None:\n        self.size = int('1')\n"
        "def untyped(value) -> int: ...\n",
        "utf-8",
    )
    symbols = symbols_of("planted", tmp_path, str(tmp_path / "lib"))
    names = {"planted.Guessed", "planted.Typed", "planted.untyped"}
    assert without_type(symbols, names) == ["planted.Guessed", "planted.untyped"]
