"""The outbox: what was used is on the disk before the store is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.core.outbox.conftest import lines, manager_on, reopened, reopened_after

from tbcontracts import Usage
from tbcontracts.commands import Charge, Confidence, Settle, Void
from tbcontracts.contract import BudgetContract
from tbcontracts.kept import Kept, Postable
from tbcontracts.outbox import Outbox
from tbcontracts.testing.unreliable_store import UnreliableStore


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_usage_is_noted_before_it_is_sent_and_marked_after(path: Path, door: str) -> None:
    """When the store hears of it, it stands in the file; afterwards it is done."""
    store = UnreliableStore()
    manager = manager_on(store, path)
    seen: list[list[dict[str, Any]]] = []

    def look(command: object) -> None:
        if isinstance(command, Settle):
            seen.append(lines(path))

    store.before = look

    async def use() -> None:
        hold = await manager.areserve("writer", 100)
        await hold.settle(Usage(input_tokens=30, output_tokens=12))

    if door == "awaited":
        asyncio.run(use())
    else:
        manager.reserve("writer", 100).settle(Usage(input_tokens=30, output_tokens=12))
    [[noted]] = seen
    assert (noted["number"], noted["scope"]) == (1, "default")
    assert noted["command"]["_"] == "Settle"
    assert noted["command"]["amount"] == 42
    assert lines(path) == [noted, {"done": 1}]
    assert reopened_after(manager, path) == []


def test_all_that_is_kept_comes_back_as_it_was(path: Path) -> None:
    """Settlements, voids, charges and scores, with the contract of their agent; in order."""
    contract = BudgetContract("wrîter", 3, 500, 50, 0.5)
    noted: list[Kept] = []
    outbox = Outbox(path)
    commands: tuple[Postable, ...] = (
        Settle("h1", "wrîter", 42, Usage(input_tokens=30, output_tokens=12), "note"),
        Settle("h2", "wrîter", 7, Usage(input_tokens=7, measured=False), final=False),
        Void("h3", "gone"),
        Charge("wrîter", 5, None, "by hand", "key-1", track=True),
        Confidence("wrîter", 0.25),
    )
    for number, command in enumerate(commands, start=1):
        noted.append(Kept(number, "acme/run", command, contract, 1.5))
        outbox.note(noted[-1])
    outbox.done(3)
    outbox.leave()
    del noted[2]
    assert reopened(path) == noted
    assert reopened(path) == noted


def test_there_are_no_prompts_in_it(path: Path) -> None:
    """Numbers, names and notes: neither what was asked nor what was answered."""
    store = UnreliableStore()
    manager = manager_on(store, path)

    @manager.govern("writer", usage_fn=lambda _: 42)
    def write(prompt: str) -> str:
        assert prompt
        store.down = True
        return "the secret answer"

    write("the secret question")
    assert "secret" not in path.read_text(encoding="utf-8")
    assert manager.unposted.tokens == 42
    store.down = False
    assert manager.flush()
