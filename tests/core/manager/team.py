"""A manager with a small team, and the promise that budget is conserved."""

from __future__ import annotations

from typing import Any

from tbcontracts import BudgetManager
from tbcontracts.books import Statement


def small_team(**settings: Any) -> BudgetManager:
    """Return a manager with a boss, a peer and a helper."""
    manager = BudgetManager(**settings)
    manager.register_agent("boss", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("peer", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("helper", priority=1, max_tokens=1_000, min_reserve=100)
    return manager


def conserved(statement: Statement) -> bool:
    """Return whether P1 holds."""
    return sum(account.allocated for account in statement.accounts) + statement.pool == (
        statement.total
    )
