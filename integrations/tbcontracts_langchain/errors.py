"""A refusal that LangChain's own retry and fallback machinery understands.

It is a `RuntimeError`, which LangGraph's default retry policy does not retry, and a `ModelError`
with `is_retryable = False`, which LangChain's model retry middleware lets pass at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbcontracts import BudgetExceededError, ConfidenceGateError

if TYPE_CHECKING:

    class _ModelError(Exception):
        is_retryable: bool

else:
    try:
        from langchain_core.exceptions import ModelError as _ModelError
    except ImportError:  # langchain-core before 1.7 has no common base for model errors

        class _ModelError(Exception):
            is_retryable = False


class LangChainBudgetExceededError(BudgetExceededError, _ModelError):
    """A model call was refused before it was sent; retrying it does not help."""

    is_retryable = False


class LangChainConfidenceGateError(ConfidenceGateError, _ModelError):
    """A model call was refused because the agent's last answer was good enough."""

    is_retryable = False


def as_langchain(error: BudgetExceededError) -> BudgetExceededError:
    """Return the same refusal as an error that LangChain does not retry."""
    kind: type[BudgetExceededError] = LangChainBudgetExceededError
    if isinstance(error, ConfidenceGateError):
        kind = LangChainConfidenceGateError
    return kind(**error.facts())
