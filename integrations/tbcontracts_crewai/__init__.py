"""tbcontracts for CrewAI: every LLM call of a crew held, settled or refused under its contracts.

Importing this package does not import CrewAI, which takes seconds: what needs it is looked up when
somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbcontracts_crewai.confidence import guardrail_verdict
from tbcontracts_crewai.hook import CrewRun, govern_crew
from tbcontracts_crewai.roster import agents_of

if TYPE_CHECKING:
    from tbcontracts_crewai.aborts import (
        CrewBudgetExceededError,
        CrewConfidenceGateError,
        CrewGateError,
        CrewStoreError,
    )
    from tbcontracts_crewai.agent import BudgetAgent

__all__ = [
    "BudgetAgent",
    "CrewBudgetExceededError",
    "CrewConfidenceGateError",
    "CrewGateError",
    "CrewRun",
    "CrewStoreError",
    "agents_of",
    "govern_crew",
    "guardrail_verdict",
]

_ERRORS = frozenset(
    ("CrewBudgetExceededError", "CrewConfidenceGateError", "CrewGateError", "CrewStoreError")
)


def __getattr__(name: str) -> Any:
    """Look up what CrewAI is needed for."""
    if name in _ERRORS or name == "BudgetAgent":
        from tbcontracts_crewai.requirements import require_crewai

        require_crewai()
    if name in _ERRORS:
        from tbcontracts_crewai import aborts

        return getattr(aborts, name)
    if name == "BudgetAgent":
        from tbcontracts_crewai.agent import BudgetAgent

        return BudgetAgent
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
