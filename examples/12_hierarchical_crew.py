"""A hierarchical crew: the manager that CrewAI adds has a contract of its own.

The first kickoff fits. In the second the coworker has too little left. CrewAI's delegation tool
turns its refusal into text, and the manager would go on at cost: the kickoff ends instead.
Run it as it stands: a scripted provider on this machine answers.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

# Before CrewAI is imported: no telemetry, no questions, no waiting at the end.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")
os.environ.setdefault("CREWAI_DISABLE_VERSION_CHECK", "true")

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import Answer, FakeOpenAI, ScriptedRequest, ToolCall
from tbcontracts_crewai import govern_crew

BUDGETS: dict[str, dict[str, Any]] = {
    "Crew Manager": {"max_tokens": 6_000, "priority": 3},
    "Researcher": {"max_tokens": 200, "max_output_tokens": 60},
}


def manage(request: ScriptedRequest) -> Answer:
    """Delegate once, then answer."""
    if any(role == "tool" for role, _ in request.messages):
        return Answer(text="Trees first, then roofs.")
    task = {"task": "Find out about trees.", "context": "Cities.", "coworker": "Researcher"}
    return Answer(tool_calls=[ToolCall(name=request.tools[0], arguments=task)])


def make_crew(base_url: str) -> Any:
    """Return a crew of one coworker and the manager that CrewAI adds."""
    from crewai import LLM, Agent, Crew, Process, Task

    llm = LLM(model="openai/gpt-4o-mini", base_url=base_url, api_key="offline")
    researcher = Agent(role="Researcher", goal="Find facts", backstory="Brief.", llm=llm)
    task = Task(description="Say how to cool a city.", expected_output="One sentence")
    return Crew(agents=[researcher], tasks=[task], process=Process.hierarchical, manager_llm=llm)


def main() -> None:
    """Run the crew until its coworker has nothing left."""
    script: dict[str, Any] = {
        "You are Crew Manager.": manage,
        "You are Researcher.": "Shade helps.",
    }
    manager = BudgetManager()
    with FakeOpenAI(script) as server:
        crews = [make_crew(server.base_url) for _ in range(2)]
        # CrewAI prints a panel about a refused task; what it is about is told below.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            govern_crew(crews[0], manager, budgets=BUDGETS),
        ):
            first = crews[0].kickoff()
            try:
                second = str(crews[1].kickoff())
            except BudgetExceededError as refusal:
                second = f"{refusal.agent_name} was refused. {refusal.remedy}"
        print(f"Kickoff 1: {first}")
        print(f"Kickoff 2: {second}")
        asked = sum("You are Crew Manager." in request.system_text for request in server.log)
        print(f"The manager made {asked} requests, and none after the refusal.")
        manager.print_report()
        consumed = sum(account.consumed for account in manager.accounts().values())
        print(f"Books: {consumed:,} tokens. Server: {server.billed_tokens:,}.")


if __name__ == "__main__":
    main()
