"""An agent that carries its contract, for crews that are defined in JSON or in typed code."""

from __future__ import annotations

from typing import Any

from crewai import Agent


class BudgetAgent(Agent):
    """A CrewAI agent with a `budget` field.

    Plain agents drop fields that they do not know without a word; this one keeps its contract
    through copies of the crew. `govern_crew` reads it.
    """

    budget: dict[str, Any] | None = None
    """The contract: priority, max_tokens, min_reserve, confidence_threshold, max_output_tokens,
    on_exceeded; in dollars max_usd and min_reserve_usd. None for an agent whose contract stands
    elsewhere."""
