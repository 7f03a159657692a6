"""The crew, as CrewAI's template has it: nothing in here knows of budgets."""

from __future__ import annotations

from typing import Any

from crewai import Agent, Crew, Process, Task
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.project import CrewBase, agent, crew, task


@CrewBase
class CityCooling:
    """The crew that writes about cooling cities."""

    agents: list[BaseAgent]
    tasks: list[Task]
    agents_config: Any = "config/agents.yaml"
    tasks_config: Any = "config/tasks.yaml"

    @agent
    def researcher(self) -> Agent:
        """Return who collects."""
        return Agent(config=self.agents_config["researcher"])

    @agent
    def reporting_analyst(self) -> Agent:
        """Return who writes."""
        return Agent(config=self.agents_config["reporting_analyst"])

    @task
    def research_task(self) -> Task:
        """Return the collecting."""
        return Task(config=self.tasks_config["research_task"])  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    @task
    def reporting_task(self) -> Task:
        """Return the writing."""
        return Task(config=self.tasks_config["reporting_task"])  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

    @crew
    def crew(self) -> Crew:
        """Return the crew."""
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.sequential)
