"""Two crews whose agents stand in one agents.yaml; the second goes on with what the first found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from crewai import Agent, Crew, Task

from tbcontracts_crewai import govern_crew

INPUTS = {"topic": "Tides"}
AGENTS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def crew_of(llm: Any, *keys: str) -> Any:
    """Return a crew of some of the agents, with a task for each."""
    agents: list[Any] = [Agent(config=AGENTS[key], llm=llm) for key in keys]
    tasks = [
        Task(description=f"Do what a {key} does.", expected_output="A text", agent=agent)
        for key, agent in zip(keys, agents, strict=True)
    ]
    return Crew(agents=agents, tasks=tasks)


def build(llm: Any) -> Any:
    """Return both crews."""
    return crew_of(llm, "researcher", "writer"), crew_of(llm, "writer", "editor")


def governed(crew: Any, contracts: Any) -> Any:
    """Return the block in which one of them is under contracts."""
    return govern_crew(crew, contracts)
