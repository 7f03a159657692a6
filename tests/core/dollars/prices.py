"""Prices, calls of a known shape, and a manager whose budget is in dollars."""

from __future__ import annotations

import io
from typing import Any

from tbcontracts import BudgetManager
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import RequestSize

PRICES = {
    "m": {"input": 2, "output": 10, "cached_input": 1, "cache_write": 3},
    "cheap": {"input": 1, "output": 1},
    "free": {"input": 0, "output": 0},
}
SHAPE = CallShape(RequestSize(100, 400), output_cap=50, model="m")


def governed(max_usd: str = "1", **settings: Any) -> BudgetManager:
    """Return a manager in dollars with one agent."""
    manager = BudgetManager(unit="usd", **{"prices": PRICES, **settings})
    manager.register_agent("a", max_usd=max_usd, min_reserve_usd=0)
    return manager


def text_of(manager: BudgetManager) -> str:
    """Return the printed report."""
    out = io.StringIO()
    manager.print_report(out)
    return out.getvalue()
