"""Stores of each kind that stop answering, and managers on them."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts import BudgetManager
from tbcontracts.testing.unreliable_store import UnreliableStore

KINDS = [(True, False), (True, True), (False, True)]
"""As stores say of themselves: in memory, a file, behind a network."""


@pytest.fixture(params=KINDS, ids=["memory", "file", "network"])
def store(request: pytest.FixtureRequest) -> UnreliableStore:
    """Return a store of each kind."""
    in_process, durable = request.param
    return UnreliableStore(in_process=in_process, durable=durable)


def manager_on(store: UnreliableStore, **settings: Any) -> BudgetManager:
    """Return a manager with two agents."""
    manager = BudgetManager(store=store, **settings)
    manager.register_agent("writer", priority=2, max_tokens=1_000)
    manager.register_agent("critic", max_tokens=1_000)
    return manager
