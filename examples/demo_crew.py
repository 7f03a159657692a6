"""The CrewAI half of the demo: roles under contracts that stand in the crew's own configuration."""

from __future__ import annotations

import contextlib
import io
import textwrap
from typing import Any

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.testing import ScriptedRequest

# What agents.yaml holds; CrewAI itself ignores the budget.
AGENTS: dict[str, dict[str, Any]] = {
    "scout": {
        "role": "Scout\n",
        "goal": "Find facts about {topic}",
        "backstory": "Fast and curious.",
        "budget": {"priority": 1, "max_tokens": 700},
    },
    "analyst": {
        "role": "Senior {topic} Analyst\n",
        "goal": "Judge what was found",
        "backstory": "Careful, and read by the board.",
        "budget": {"priority": 3, "max_tokens": 350},
    },
    "reviewer": {
        "role": "Reviewer\n",
        "goal": "Check every sentence",
        "backstory": "Never satisfied.",
        "budget": {"priority": 1, "max_tokens": 60, "min_reserve": 60},
    },
}
BUDGETS = {str(agent["role"]).strip(): agent["budget"]["max_tokens"] for agent in AGENTS.values()}


def script(request: ScriptedRequest) -> str:
    """Answer as each role would."""
    if "You are Scout" in request.system_text:
        return "Fact: shade lowers street temperature. " * 6
    return "Judgement: plant trees first, paint roofs second. " * 12


def run(base_url: str | None, api_key: str, model_name: str) -> BudgetManager:
    """Run the crew, and tell what happens; return the manager with the books."""
    from crewai import LLM, Agent, Crew, Task

    from tbcontracts_crewai import govern_crew

    llm = LLM(
        model=f"openai/{model_name}", base_url=base_url, api_key=api_key, max_completion_tokens=400
    )
    agents = {
        key: Agent(
            role=agent["role"],
            goal=agent["goal"],
            backstory=agent["backstory"],
            llm=llm,
        )
        for key, agent in AGENTS.items()
    }
    wanted = {"scout": "Collect facts", "analyst": "Judge them", "reviewer": "Check the judgement"}
    tasks = [
        Task(description=text, expected_output="a paragraph", agent=agents[key])
        for key, text in wanted.items()
    ]
    crew = Crew(agents=list(agents.values()), tasks=tasks)
    manager = BudgetManager()
    try:
        # CrewAI prints about a refused task, too; what it is about is told below.
        with contextlib.redirect_stdout(io.StringIO()), govern_crew(crew, manager, config=AGENTS):
            crew.kickoff(inputs={"topic": "City Cooling"})
    except BudgetExceededError as refusal:
        done = [task.description for task in tasks if task.output is not None]
        print(f"Finished and readable: {', '.join(done)}. Then a call was refused:")
        told = textwrap.fill(f"{refusal.reason} {refusal.remedy}", 74)
        print(textwrap.indent(told, "  "))
    template = str(AGENTS["analyst"]["role"]).strip()
    print(f"{template!r} is one account, whatever {{topic}} is filled with.")
    return manager
