"""Outboxes, managers that have one, and what stands in them."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from tbcontracts import BudgetManager
from tbcontracts.kept import Kept
from tbcontracts.outbox import Outbox
from tbcontracts.testing.unreliable_store import UnreliableStore

HEADER = '{"outbox":1}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of an outbox that does not exist yet."""
    return tmp_path / "outbox.jsonl"


def manager_on(store: UnreliableStore, path: Path, **settings: Any) -> BudgetManager:
    """Return a manager with one agent and an outbox."""
    manager = BudgetManager(store=store, outbox=path, **settings)
    manager.register_agent("writer", max_tokens=1_000)
    return manager


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what stands in an outbox, behind its first line."""
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first == HEADER
    return [json.loads(line) for line in rest]


def reopened(path: Path) -> list[Kept]:
    """Return what a new process would find, after the old one let go of it."""
    gc.collect()
    outbox = Outbox(path)
    left = outbox.left
    outbox.leave()
    return left


def reopened_after(manager: BudgetManager, path: Path) -> list[Kept]:
    """Let a manager's outbox go, and return what is in it."""
    outbox = manager._engine.backlog._outbox
    assert outbox is not None
    outbox.leave()
    return reopened(path)
