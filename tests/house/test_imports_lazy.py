"""Importing is cheap: what is heavy is loaded by whoever uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tbcontracts

HEAVY = frozenset(
    (
        "asyncio",
        "click",
        "crewai",
        "email",
        "http",
        "importlib.metadata",
        "langchain",
        "langchain_core",
        "langgraph",
        "litellm",
        "openai",
        "opentelemetry",
        "psycopg",
        "pydantic",
        "redis",
        "rich",
        "sqlite3",
        "ssl",
        "tiktoken",
        "yaml",
    )
)
FRAMEWORKS = frozenset(("crewai", "langchain", "langchain_core", "langgraph", "litellm"))
# What each package may load of the frameworks.
MAY_LOAD = {
    "tbcontracts": frozenset[str](),
    "tbcontracts.testing": frozenset[str](),
    "tbcontracts_crewai": frozenset[str](),
    "tbcontracts_langchain": frozenset(("langchain_core",)),
    "tbcontracts_langgraph": frozenset(("langchain_core", "langgraph")),
}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has after `code` and had not before."""
    script = (
        "import json, sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_the_core_loads_nothing_heavy() -> None:
    """All public names together bring in neither asyncio nor a database, parser or framework."""
    assert loaded_by("from tbcontracts import *") & HEAVY == set()


def test_a_name_that_nobody_asks_for_is_not_loaded() -> None:
    """`import tbcontracts` loads itself; a name brings what it stands on, and is found by `dir`."""
    assert loaded_by("import tbcontracts") - {"__future__"} == {"tbcontracts"}
    loaded = loaded_by("import tbcontracts\ntbcontracts.BudgetExceededError")
    assert {name for name in loaded if name.startswith("tbcontracts")} == {
        "tbcontracts",
        "tbcontracts.errors",
    }
    assert set(tbcontracts.__all__) <= set(dir(tbcontracts))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        tbcontracts.Nothing  # type: ignore[attr-defined]  # noqa: B018 - asked for on purpose


def test_a_hold_loads_nothing_heavy() -> None:
    """Neither does the use of a manager from plain synchronous code."""
    code = (
        "from tbcontracts import BudgetManager\n"
        "manager = BudgetManager()\n"
        "manager.register_agent('writer')\n"
        "manager.reserve('writer', 10).settle(7)\n"
        "manager.report()"
    )
    assert loaded_by(code) & HEAVY == set()


@pytest.mark.parametrize("package", MAY_LOAD)
def test_packages_load_only_their_own_framework(package: str) -> None:
    """A plugin brings in the framework that it is for, CrewAI's not even that."""
    assert loaded_by(f"import {package}") & FRAMEWORKS <= MAY_LOAD[package]


def test_a_planted_import_is_found() -> None:
    """The look into a fresh interpreter sees what an import drags along."""
    assert loaded_by("import tbcontracts, sqlite3, email.message") & HEAVY == {"email", "sqlite3"}
