"""Refusals as errors that CrewAI neither swallows nor retries. Importing this imports CrewAI.

They derive from `HookAborted`, the one exception that leaves `kickoff()` as itself. Their text
holds nothing of the user's: CrewAI looks for words such as "rate limit" in it, and would take a
role named "Rate Limit Analyst" for throttling, sleep, and try again. The facts are attributes.
"""

from __future__ import annotations

from typing import Any, NoReturn

from crewai.hooks.dispatch import HookAborted

from tbcontracts import BudgetExceededError, ConfidenceGateError, StoreError, TBCError
from tbcontracts.money import figure, said
from tbcontracts.sizing import UNKNOWN_PRICE

SOURCE = "tbcontracts"


class CrewBudgetExceededError(BudgetExceededError, HookAborted):
    """A call of a crew was refused before it was sent.

    Attributes:
        source: "tbcontracts"; CrewAI shows it as who aborted.
    """

    source: Any = SOURCE

    def __str__(self) -> str:
        """Say what happened without a word of the user's; names and scope are attributes."""
        asked, available = said(self.requested, self.unit), figure(self.available, self.unit)
        what = f"does not cover this LLM call: {asked} asked, {available} available"
        if self.code == UNKNOWN_PRICE:
            what = "is in dollars, and what this LLM call costs is not known"
        budget = "token budget" if self.unit == "tokens" else "budget"
        return (
            f"The {budget} {what}. It was not sent. Whose budget, where and what helps: "
            "see agent_name, scope, reason and remedy of this error."
        )


class CrewConfidenceGateError(ConfidenceGateError, CrewBudgetExceededError):
    """A call of a crew was refused because the agent's last answer was good enough."""

    def __str__(self) -> str:
        """Say what happened without a word of the user's."""
        return (
            f"The last reported confidence ({self.score:g}) reached the contract's threshold "
            f"({self.threshold:g}): this LLM call was not sent. See agent_name, scope, reason and "
            "remedy of this error."
        )


class CrewGateError(TBCError, HookAborted):
    """A call was not sent because it could not be decided on: budgets fail closed.

    Attributes:
        reason: What went wrong; the log has the whole.
        source: "tbcontracts".
    """

    code = "gate"
    source: Any = SOURCE

    def __init__(self, message: str = "", *, code: str | None = None, remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.reason = message
        self.source = SOURCE  # the constructor of HookAborted has just taken it away


class CrewStoreError(CrewGateError, StoreError):
    """A call was not sent because the store of the books could not answer."""

    code = "store"


def as_crew(error: BudgetExceededError) -> CrewBudgetExceededError:
    """Return the same refusal as an error that CrewAI lets out."""
    kind: type[CrewBudgetExceededError] = CrewBudgetExceededError
    if isinstance(error, ConfidenceGateError):
        kind = CrewConfidenceGateError
    return kind(**error.facts())


def stopped(first: BudgetExceededError) -> CrewBudgetExceededError:
    """Return the refusal of a call whose kickoff was stopped by an earlier refusal."""
    facts = first.facts()
    facts["reason"] = f"An earlier refusal ended this kickoff. {first.reason}"
    error = type(first)(**facts)
    assert isinstance(error, CrewBudgetExceededError)
    return error


def undecided(error: BaseException) -> CrewGateError:
    """Return the error for a call that could not be decided on."""
    # Not even the class name of the error goes into the text: it may read as throttling.
    see = "The log of tbcontracts has the whole error."
    if isinstance(error, StoreError):
        return CrewStoreError("The budget store did not answer; the call was not sent.", remedy=see)
    return CrewGateError(
        "The budget of this call could not be checked; it was not sent.", remedy=see
    )


def raise_alone(
    error: CrewBudgetExceededError | CrewGateError, cause: BudgetExceededError | None = None
) -> NoReturn:
    """Raise an error without the context of whatever is being handled around it.

    CrewAI searches the whole chain of an error for signs of throttling; its explicit cause, if it
    has one, is ours.
    """
    try:
        raise error from cause
    finally:
        error.__context__ = None
