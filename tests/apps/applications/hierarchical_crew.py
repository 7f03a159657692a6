"""A crew that a manager leads: it delegates to two coworkers, and one of them has a tool."""

from __future__ import annotations

from typing import Any

from crewai import Agent, Crew, Process, Task
from crewai.tools import tool

from tbcontracts_crewai import govern_crew

INPUTS = {"city": "Porto"}


@tool("look_up")
def look_up(topic: str) -> str:
    """Look a topic up."""
    return f"{topic}: 1911."


def build(llm: Any) -> Any:
    """Return the crew."""
    researcher = Agent(
        role="Researcher of {city}", goal="Find facts", backstory="B.", llm=llm, tools=[look_up]
    )
    writer = Agent(role="Writer", goal="Write", backstory="B.", llm=llm)
    task = Task(description="A guide to {city}.", expected_output="A guide")
    return Crew(
        agents=[researcher, writer], tasks=[task], process=Process.hierarchical, manager_llm=llm
    )


def governed(crew: Any, contracts: Any) -> Any:
    """Return the block in which it is under contracts."""
    return govern_crew(crew, contracts)
