"""Importing is cheap: what is heavy is loaded by whoever uses it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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
    """`import tbcontracts` brings in neither asyncio nor a database, parser or framework."""
    assert loaded_by("import tbcontracts") & HEAVY == set()


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
