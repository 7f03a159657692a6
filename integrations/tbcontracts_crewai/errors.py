"""How the gate stops a call; importing this does not import CrewAI yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from tbcontracts import BudgetExceededError

if TYPE_CHECKING:
    from tbcontracts_crewai.aborts import CrewBudgetExceededError

DENIED_BY_HOOK = "LLM call denied by"
"""How CrewAI begins the text of a failed event whose call a hook stopped."""


def as_crew_error(error: BudgetExceededError) -> CrewBudgetExceededError:
    """Return a refusal as the error that leaves `kickoff()`."""
    from tbcontracts_crewai import aborts

    return aborts.as_crew(error)


def raise_refusal(refusal: CrewBudgetExceededError) -> NoReturn:
    """Raise a refusal, without the context of whatever is being handled around it."""
    from tbcontracts_crewai import aborts

    aborts.raise_alone(refusal)


def raise_stopped(first: BudgetExceededError) -> NoReturn:
    """Refuse a call because an earlier refusal ended its kickoff."""
    from tbcontracts_crewai import aborts

    aborts.raise_alone(aborts.stopped(first), first)


def raise_undecided(error: BaseException) -> NoReturn:
    """Stop a call that could not be decided on: budgets fail closed."""
    from tbcontracts_crewai import aborts

    aborts.raise_alone(aborts.undecided(error))


def stopped_by_hook(error: BaseException | None) -> bool:
    """Return whether a hook, ours or another, stopped a call before it was sent."""
    from crewai.hooks.dispatch import HookAborted
    from crewai.llms.base_llm import LLMCallBlockedError

    return isinstance(error, (HookAborted, LLMCallBlockedError))


def __getattr__(name: str) -> Any:
    """Look up the error classes, which need CrewAI."""
    if name.startswith("Crew"):
        import tbcontracts_crewai

        return getattr(tbcontracts_crewai, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
