"""A clock to turn, and scopes to fill a memory store with."""

from __future__ import annotations

from tbcontracts.commands import Open
from tbcontracts.contract import BudgetContract

CONTRACTS = Open((BudgetContract("a", max_tokens=100),))


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now
