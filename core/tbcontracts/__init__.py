"""Token budget contracts for multi-agent LLM systems.

Declare what each agent may spend and how important it is; a call that cannot be paid for is not
sent, what was used is on the books, and unused budget goes to whoever matters more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbcontracts.compat import Ledger, Reallocator
from tbcontracts.confidence_gate import ConfidenceGate
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import (
    BudgetExceededError,
    ConfidenceGateError,
    ContractConflictError,
    IdempotencyConflictError,
    OutcomeUnknownError,
    StoreError,
    TBCError,
    UnknownAgentError,
)
from tbcontracts.hold import AsyncHold, Hold
from tbcontracts.manager import BudgetManager
from tbcontracts.stores.base import open_store
from tbcontracts.usage import Usage

__all__ = [
    "AsyncHold",
    "BudgetContract",
    "BudgetExceededError",
    "BudgetManager",
    "ConfidenceGate",
    "ConfidenceGateError",
    "ContractConflictError",
    "Hold",
    "IdempotencyConflictError",
    "Ledger",
    "OutcomeUnknownError",
    "Reallocator",
    "StoreError",
    "TBCError",
    "UnknownAgentError",
    "Usage",
    "open_store",
]

if TYPE_CHECKING:
    __version__: str
else:  # so that type checkers still find a name that is not there

    def __getattr__(name: str) -> str:
        """Look the version up when somebody asks for it; that costs more than the import."""
        if name == "__version__":
            from importlib.metadata import version

            return version("tbcontracts")
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
