"""Agents that share a model: CrewAI's own total beside the books and the provider's log.

CrewAI counts per model and adds up per agent, so a model that five agents share counts five times.
Run it as it stands: a scripted provider on this machine answers.
"""

from __future__ import annotations

import os
from typing import Any

# Before CrewAI is imported: no telemetry, no questions, no waiting at the end.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")

from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import govern_crew

ROLES = ("Scout", "Analyst", "Critic", "Writer", "Editor")


def main() -> None:
    """Run five agents on one model, and print three totals."""
    from crewai import LLM, Agent, Crew, Task

    with FakeOpenAI() as server:
        llm = LLM(model="openai/gpt-4o-mini", base_url=server.base_url, api_key="offline")
        agents: list[Any] = [Agent(role=role, goal="g", backstory="b", llm=llm) for role in ROLES]
        tasks = [Task(description="d", expected_output="e", agent=agent) for agent in agents]
        crew = Crew(agents=agents, tasks=tasks)
        with govern_crew(crew, budgets={role: {"max_tokens": 2_000} for role in ROLES}) as run:
            crew.kickoff()
        consumed = sum(account.consumed for account in run.manager.accounts().values())
        told = crew.usage_metrics
        print(f"CrewAI: {told.total_tokens if told else 0:,} tokens.")
        print(f"Books: {consumed:,} tokens. Server: {server.billed_tokens:,}.")


if __name__ == "__main__":
    main()
