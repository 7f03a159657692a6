"""tbcontracts for LangChain: a callback handler that refuses before a call and charges after it.

Beside it, for where a call can still be changed: middleware for agents, and a chat model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbcontracts_langchain.chat_model import BudgetedChatModel
from tbcontracts_langchain.errors import LangChainBudgetExceededError, LangChainConfidenceGateError
from tbcontracts_langchain.handler import BudgetCallbackHandler, budget_callbacks

if TYPE_CHECKING:
    from tbcontracts_langchain.middleware import BudgetMiddleware

__all__ = [
    "BudgetCallbackHandler",
    "BudgetMiddleware",
    "BudgetedChatModel",
    "LangChainBudgetExceededError",
    "LangChainConfidenceGateError",
    "budget_callbacks",
]


def __getattr__(name: str) -> Any:
    """Import the middleware when it is asked for: it needs more than langchain-core.

    Raises:
        ImportError: The package with `create_agent` is not installed.
    """
    if name != "BudgetMiddleware":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        from tbcontracts_langchain.middleware import BudgetMiddleware
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langgraph"):
            raise
        msg = (
            "BudgetMiddleware is for agents of langchain.agents.create_agent, and the package "
            f"{error.name!r} is not installed. What helps: pip install 'langchain>=1.2'."
        )
        raise ImportError(msg, name=error.name) from error
    globals()[name] = BudgetMiddleware
    return BudgetMiddleware
