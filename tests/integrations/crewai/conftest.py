"""The real CrewAI, kept to this machine: no telemetry, no questions, its files in a temp folder."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tbcontracts.testing import FakeOpenAI

# Before CrewAI is imported, which reads them then.
os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
os.environ["OTEL_SDK_DISABLED"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"
os.environ["CREWAI_DISABLE_VERSION_CHECK"] = "true"
_FOLDER = tempfile.TemporaryDirectory(prefix="tbcontracts-crewai-", ignore_cleanup_errors=True)
os.environ["CREWAI_STORAGE_DIR"] = _FOLDER.name

if find_spec("crewai") is not None:
    # Its import warns of its own business; here, so that ours may be errors everywhere else.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import crewai  # noqa: F401

NEEDS_NONE = "test_without_crewai.py"
"""The one file here that does not import CrewAI, and shows by a skip that it is missing."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave files that import CrewAI alone where it is not installed."""
    is_test = collection_path.name.startswith("test_") and collection_path.name != NEEDS_NONE
    return True if is_test and find_spec("crewai") is None else None


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """Return a provider that answers everything with a short sentence."""
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
def llm(server: FakeOpenAI) -> Callable[..., Any]:
    """Return a maker of models that ask the local provider."""
    from crewai import LLM

    def make(**settings: Any) -> Any:
        given = {"model": "openai/gpt-4o-mini", "base_url": server.base_url, "api_key": "test"}
        return LLM(**{**given, "max_retries": 0, **settings})

    return make


@pytest.fixture
def agent(llm: Callable[..., Any]) -> Callable[..., Any]:
    """Return a maker of agents, which do not repeat a task that failed."""
    from crewai import Agent

    def make(role: str, **settings: Any) -> Any:
        settings.setdefault("llm", llm())
        kind = settings.pop("kind", Agent)
        return kind(role=role, goal="g", backstory="b", max_retry_limit=0, **settings)

    return make


@pytest.fixture
def crew() -> Callable[..., Any]:
    """Return a maker of crews: one task for each agent, in their order."""
    from crewai import Crew, Task

    def make(*agents: Any, tasks: Any = None, **settings: Any) -> Any:
        if tasks is None:
            tasks = [
                Task(description=f"Do part {at}.", expected_output="e", agent=agent)
                for at, agent in enumerate(agents)
            ]
        known: list[Any] = []
        known.extend(agent for agent in agents if not any(agent is other for other in known))
        return Crew(agents=known, tasks=tasks, **settings)

    return make
