"""A manager with one writer, and what the tests of governed functions look at."""

from __future__ import annotations

import pytest

from tbcontracts import BudgetManager
from tbcontracts.books import AccountView

REPLY = {"text": "Hello.", "usage": {"prompt_tokens": 30, "completion_tokens": 12}}


@pytest.fixture
def manager() -> BudgetManager:
    """Return a manager with one agent that has plenty."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=10_000)
    return manager


def writer(manager: BudgetManager) -> AccountView:
    """Return the writer's account."""
    return manager.accounts()["writer"]
