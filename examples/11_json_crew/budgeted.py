"""Agents with budgets, for this project's JSON: CrewAI takes classes from the project only."""

from tbcontracts_crewai import BudgetAgent

__all__ = ["BudgetAgent"]
