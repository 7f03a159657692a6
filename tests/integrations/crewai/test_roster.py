"""Which agents a crew has, the contract of each, by which rule, and what is worth a look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crewai import Crew, Process, Task
from crewai.flow.flow import Flow

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.roster import Roster, Unmatched
from tbcontracts_crewai import BudgetAgent, agents_of, govern_crew

Make = Callable[..., Any]


def found(roster: Roster) -> dict[str, tuple[str, str | None, str]]:
    """Return place, contract and rule of each agent."""
    return {one.name: (one.where, one.contract, one.rule) for one in roster.agents}


def test_each_rule_is_named(agent: Make, crew: Make) -> None:
    """By role, by the role as it was written, by placeholders, by what pays for all others."""
    reader = agent("Reader of {topic}\n")
    reader.interpolate_inputs({"topic": "tides"})
    filled_in = agent("Writer on tides")
    team = crew(reader, filled_in, agent("Editor\n"))
    budgets = {role: {"max_tokens": 10} for role in ("Reader of {topic}", "Editor")}
    manager = BudgetManager()
    manager.register_agent("Writer on {topic}", max_tokens=10)
    assert found(agents_of(team, manager, budgets=budgets)) == {
        "Reader of {topic}": ("agent", "Reader of {topic}", "role, as written"),
        "Writer on {topic}": ("agent", "Writer on {topic}", "placeholders"),
        "Editor": ("agent", "Editor", "role"),
    }
    assert set(manager.contracts) == {"Writer on {topic}"}
    rest = BudgetManager(unattributed=BudgetContract("rest", max_tokens=9))
    assert found(agents_of(crew(agent("Editor")), rest)) == {
        "Editor": ("agent", "rest", "for all others")
    }


def test_managers_and_helpers_are_agents(agent: Make) -> None:
    """The manager that CrewAI makes, and who plans and judges, where they are needed."""
    worker = agent("Worker", kind=BudgetAgent, budget={"max_tokens": 5})
    team = Crew(
        agents=[worker],
        tasks=[Task(description="d", expected_output="e", guardrail="Short.", agent=worker)],
        process=Process.hierarchical,
        manager_llm=agent("x").llm,
        planning=True,
    )
    roster = agents_of(team, budgets={"Crew Manager": {"max_tokens": 10}})
    assert found(roster) == {
        "Worker": ("agent", "Worker", "role"),
        "Crew Manager": ("manager, made at kickoff", "Crew Manager", "role"),
        "Guardrail Agent": ("helper, made when needed", None, ""),
        "Task Execution Planner": ("helper, made when needed", None, ""),
    }


def test_it_warns_with_the_words_of_the_roster(agent: Make, crew: Make) -> None:
    """What `govern_crew` warns of stands in the list, in the same words."""
    team = crew(agent("Researcher"), agent("Writer"), agent("Writer"))
    budgets = {"Reseacher": {"max_tokens": 10}, "Writer": {"max_tokens": 10}}
    roster = agents_of(team, budgets=budgets)
    assert roster.unmatched == (Unmatched("Reseacher", "Researcher", "budgets"),)
    assert roster.without == ("Researcher",)
    assert roster.twins == {"Writer": ("agent", "agent")}
    with pytest.warns(UserWarning, match="o") as warned:
        govern_crew(team, budgets=budgets)
    said = [str(one.message) for one in warned]
    assert len(said) == 2
    assert said[0].startswith("No agent here is called 'Reseacher' in budgets (nearest: 'Res")
    assert said[1] == "No contract for 'Researcher': their calls are tracked without a limit."
    assert roster.findings[0].startswith("No agent here is called 'Reseacher' in budgets (near")


def test_files_are_read_and_no_store_is_made(
    agent: Make, crew: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a contract file the contracts; those of a manager for nobody here are told too."""
    monkeypatch.chdir(tmp_path)
    Path("budget.toml").write_text(
        'store = "sqlite:///budget.db"\n[agents.Editor]\nmax_tokens = 9\n', encoding="utf-8"
    )
    assert found(agents_of(crew(agent("Editor")), "budget.toml"))["Editor"][1] == "Editor"
    assert [path.name for path in tmp_path.iterdir()] == ["budget.toml"]
    manager = BudgetManager()
    manager.register_agent("Editors", max_tokens=9)
    roster = agents_of(crew(agent("Editor")), manager)
    assert roster.unmatched == (Unmatched("Editors", "Editor"),)


def test_patterns_are_told_from_names(
    agent: Make, crew: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract by pattern says so, and a pattern that matches nobody is told."""
    monkeypatch.chdir(tmp_path)
    Path("budget.toml").write_text(
        '[agents."* Analyst"]\nmax_tokens = 9\n[agents."Writers*"]\nmax_tokens = 9\n',
        encoding="utf-8",
    )
    roster = agents_of(crew(agent("Senior Analyst\n"), agent("Writer")), "budget.toml")
    assert found(roster) == {
        "Senior Analyst": ("agent", "Senior Analyst", "role, by pattern"),
        "Writer": ("agent", None, ""),
    }
    assert roster.unmatched == (Unmatched("Writers*", "Writer"),)


def test_a_flow_has_no_agents_beforehand(agent: Make) -> None:
    """And therefore no contract of it is for nobody."""

    class Report(Flow):  # type: ignore[type-arg]
        """No steps."""

    assert agents_of(Report(), budgets={"Writer": {"max_tokens": 10}}) == Roster(())


def test_what_cannot_be_used_is_refused(agent: Make, crew: Make) -> None:
    """Neither a list for a crew nor a number for a manager."""
    wrong: Any = 7
    with pytest.raises(ConfigurationError, match="needed is a Crew or a Flow, not list"):
        agents_of([agent("Writer")])
    with pytest.raises(ConfigurationError, match="a BudgetManager or a contract file, not int"):
        agents_of(crew(agent("Writer")), wrong)
