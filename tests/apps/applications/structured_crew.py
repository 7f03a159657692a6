"""A crew whose tasks have structured outputs, one read as JSON and one as an object."""

from __future__ import annotations

from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel

from tbcontracts_crewai import govern_crew

INPUTS: dict[str, Any] = {}


class Facts(BaseModel):
    """What is found."""

    city: str
    founded: int


class Verdict(BaseModel):
    """What is said of it."""

    right: bool


@tool("look_up")
def look_up(topic: str) -> str:
    """Look a topic up."""
    return f"{topic}: 1911."


def build(llm: Any) -> Any:
    """Return the crew."""
    finder = Agent(
        role='The "Finder"\nof facts', goal="Find facts", backstory="B.", llm=llm, tools=[look_up]
    )
    judge = Agent(role="  Judge \n", goal="Judge facts", backstory="B.", llm=llm, tools=[look_up])
    return Crew(
        agents=[finder, judge],
        tasks=[
            Task(
                description="When was it founded?",
                expected_output="A city and a year",
                agent=finder,
                output_json=Facts,
            ),
            Task(
                description="Is this right?",
                expected_output="A verdict",
                agent=judge,
                output_pydantic=Verdict,
            ),
        ],
    )


def governed(crew: Any, contracts: Any) -> Any:
    """Return the block in which it is under contracts."""
    return govern_crew(crew, contracts)
