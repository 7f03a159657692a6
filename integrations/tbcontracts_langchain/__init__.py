"""tbcontracts for LangChain: a callback handler that refuses before a call and charges after it."""

from __future__ import annotations

from tbcontracts_langchain.chat_model import BudgetedChatModel
from tbcontracts_langchain.errors import LangChainBudgetExceededError, LangChainConfidenceGateError
from tbcontracts_langchain.handler import BudgetCallbackHandler, budget_callbacks

__all__ = [
    "BudgetCallbackHandler",
    "BudgetedChatModel",
    "LangChainBudgetExceededError",
    "LangChainConfidenceGateError",
    "budget_callbacks",
]
