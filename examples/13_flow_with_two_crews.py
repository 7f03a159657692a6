"""A Flow with two crews and a call of its own, on one manager's books.

Run it as it stands: a scripted provider on this machine answers.
"""

from __future__ import annotations

import os
from typing import Any

# Before CrewAI is imported: no telemetry, no questions, no waiting at the end.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.testing import FakeOpenAI
from tbcontracts_crewai import govern_crew


def make_crew(role: str, llm: Any) -> Any:
    """Return a crew of one agent."""
    from crewai import Agent, Crew, Task

    agent = Agent(role=role, goal="Do your part", backstory="Brief.", llm=llm)
    return Crew(
        agents=[agent],
        tasks=[Task(description="Do it.", expected_output="A sentence", agent=agent)],
    )


def make_flow(research: Any, writing: Any, llm: Any) -> Any:
    """Return a flow that runs one crew after the other, with a question of its own between."""
    from crewai.flow.flow import Flow, listen, start

    class Report(Flow):  # type: ignore[type-arg]
        """Research, a title, a report."""

        @start()
        def collect(self) -> str:
            """Run the first crew."""
            return str(research.kickoff())

        @listen(collect)
        def entitle(self) -> str:
            """Ask the model without any agent: the contract for everybody else pays."""
            return str(llm.call("Give this a title."))

        @listen(entitle)
        def write(self) -> str:
            """Run the second crew."""
            return str(writing.kickoff())

    return Report()


def main() -> None:
    """Run the flow, and print who spent what."""
    from crewai import LLM

    # Contracts for all that the flow calls; what no role answers for goes to "flow".
    manager = BudgetManager(unattributed=BudgetContract("flow", max_tokens=2_000))
    manager.register_agent("Researcher", max_tokens=1_000)
    manager.register_agent("Writer", max_tokens=1_000, priority=2)
    with FakeOpenAI() as server:
        llm = LLM(model="openai/gpt-4o-mini", base_url=server.base_url, api_key="offline")
        research, writing = make_crew("Researcher", llm), make_crew("Writer", llm)
        flow = make_flow(research, writing, llm)
        with govern_crew(research, manager):
            flow.kickoff()
        manager.print_report()
        consumed = sum(account.consumed for account in manager.accounts().values())
        print(f"Books: {consumed:,} tokens. Server: {server.billed_tokens:,}.")


if __name__ == "__main__":
    main()
