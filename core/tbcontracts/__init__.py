"""Token budget contracts for multi-agent LLM systems.

Declare what each agent may spend and how important it is; a call that cannot be paid for is not
sent, what was used is on the books, and unused budget goes to whoever matters more.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it, whose import alone would double what this one costs
if TYPE_CHECKING:
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
    from tbcontracts.hold import Hold
    from tbcontracts.hold_async import AsyncHold
    from tbcontracts.manager import BudgetManager
    from tbcontracts.stores.opening import open_store
    from tbcontracts.usage import Usage

    __version__: str

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

# Where each name is: what nobody asks for is not loaded.
_HOMES = {
    "AsyncHold": "hold_async",
    "BudgetContract": "contract",
    "BudgetExceededError": "errors",
    "BudgetManager": "manager",
    "ConfidenceGate": "confidence_gate",
    "ConfidenceGateError": "errors",
    "ContractConflictError": "errors",
    "Hold": "hold",
    "IdempotencyConflictError": "errors",
    "Ledger": "compat",
    "OutcomeUnknownError": "errors",
    "Reallocator": "compat",
    "StoreError": "errors",
    "TBCError": "errors",
    "UnknownAgentError": "errors",
    "Usage": "usage",
    "open_store": "stores.opening",
}

if not TYPE_CHECKING:  # so that type checkers still find a name that is not there

    def __getattr__(name: str) -> object:
        """Load a public name, or look the version up, when somebody asks for it."""
        if name == "__version__":
            from importlib.metadata import version

            return version("tbcontracts")
        home = _HOMES.get(name)
        if home is None:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        from importlib import import_module

        found = getattr(import_module(f"tbcontracts.{home}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """Return all names, loaded or not."""
        return sorted({*globals(), *__all__})
