"""Whom a crew asks for more budget where a contract says "ask"."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.exhaustion import BudgetRequest, grant, granted_amount, request_for
from tbcontracts.money import said

AskFn = Callable[[BudgetRequest], Any]
"""Called when a contract says "ask": returns how much is granted, a number of tokens or a `Decimal`
of dollars; 0 or None refuses."""

_T = TypeVar("_T")
_NOBODY = (
    "Nobody could be asked: there is no terminal here. What helps: govern_crew(..., ask_fn=...)."
)


class Asking:
    """Asks for budget, one question at a time.

    Args:
        manager: Whose books a grant goes to.
        ask_fn: Who is asked; None asks at the terminal.
    """

    def __init__(self, manager: BudgetManager, ask_fn: AskFn | None) -> None:
        self._manager = manager
        self._ask_fn = ask_fn
        # Parallel tasks would ask at once for what one answer may be enough for.
        self._lock = threading.RLock()
        self.grants: int = 0
        """How many questions were answered with budget."""

    def ask(
        self,
        refusal: BudgetExceededError,
        try_again: Callable[[], _T | BudgetExceededError],
        grants_before: int,
    ) -> _T | BudgetExceededError:
        """Ask until the call fits or nothing more is granted.

        Args:
            refusal: Why the call does not fit.
            try_again: Tries to hold for it; returns the refusal if it does not fit.
            grants_before: `grants` as it was before the refusal.

        Returns:
            What `try_again` returned, or the refusal that nothing was granted for.
        """
        with self._lock:
            if self.grants != grants_before:
                found = try_again()  # somebody was given budget while this one waited
                if not isinstance(found, BudgetExceededError):
                    return found
                refusal = found
            while True:
                request = request_for(refusal)
                tokens = self._answer(request)
                if tokens is None:
                    return _unasked(refusal)
                if not tokens:
                    return refusal
                grant(self._manager, request, tokens)
                self.grants += 1
                found = try_again()
                if not isinstance(found, BudgetExceededError):
                    return found
                refusal = found

    def _answer(self, request: BudgetRequest) -> int | None:
        """Return how much is granted; None if there was nobody to ask.

        Raises:
            TypeError: The answer is no amount.
            ValueError: It is out of range.
        """
        if self._ask_fn is None:
            return ask_on_terminal(request)
        granted = self._ask_fn(request) or 0
        what = f"The grant for agent {request.agent_name!r}"
        return granted_amount(granted, request.unit, what)


def ask_on_terminal(request: BudgetRequest) -> int | None:
    """Ask whoever sits at the terminal; None if nobody does.

    CrewAI's live view is paused meanwhile.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    from crewai.hooks.llm_hooks import LLMCallHookContext

    in_usd = request.unit == "usd"
    asked = "Dollars" if in_usd else "Tokens"
    message = f"{request.reason} It lacks {said(request.lacking, request.unit)}."
    while True:
        answer = LLMCallHookContext().request_human_input(
            message, f"{asked} to grant; Enter for none, which refuses the call:"
        )
        text = answer.replace(",", "").replace("_", "").strip() or "0"
        try:
            return granted_amount(text if in_usd else int(text), request.unit)
        except ValueError:
            message = f"{answer!r} is no {'sum of dollars' if in_usd else 'number of tokens'}."


def _unasked(refusal: BudgetExceededError) -> BudgetExceededError:
    """Return a refusal that says that nobody could be asked."""
    facts = refusal.facts()
    facts["remedy"] = f"{_NOBODY} {refusal.remedy}"
    return type(refusal)(**facts)
