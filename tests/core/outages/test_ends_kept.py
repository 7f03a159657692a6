"""Ends while the store is down: kept, and posted once when it is back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.outages.conftest import manager_on

from tbcontracts import Usage
from tbcontracts.commands import Posted, Settle
from tbcontracts.testing.unreliable_store import UnreliableStore


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_ends_are_kept_and_posted_when_the_store_is_back(store: UnreliableStore, door: str) -> None:
    """Settlements, voids and charges: none raises, all are on the books once, in their order."""
    manager = manager_on(store)
    settled, provisional, voided = (manager.reserve("writer", 100) for _ in range(3))
    store.down = True

    async def end_awaited() -> list[Posted]:
        posted = [await settled.asettle(Usage(input_tokens=30, output_tokens=40))]
        posted.append(await provisional.asettle(90, final=False))
        posted.append(await provisional.asettle(80))
        await voided.avoid()
        posted.append(await manager.arecord_usage("writer", 5, "by hand", 0.5))
        return posted

    def end() -> list[Posted]:
        posted = [settled.settle(Usage(input_tokens=30, output_tokens=40))]
        posted.append(provisional.settle(90, final=False))
        posted.append(provisional.settle(80))
        voided.void()
        posted.append(manager.record_usage("writer", 5, "by hand", 0.5))
        return posted

    posted = asyncio.run(end_awaited()) if door == "awaited" else end()
    assert [(one.agent, one.amount, one.seq) for one in posted] == [
        ("writer", amount, 0) for amount in (70, 90, 80, 5)
    ]
    assert settled.resolved
    assert voided.resolved
    waiting = manager.unposted
    assert (waiting.waiting, waiting.tokens, waiting.unheld) == (6, 245, 0)
    assert waiting.since is not None

    store.down = False
    assert asyncio.run(manager.aflush()) if door == "awaited" else manager.flush()
    assert manager.unposted == (0, 0, None, 0, 0, 0)
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held, account.input_tokens) == (155, 0, 30)
    ends = [entry.kind for entry in manager.journal() if entry.kind not in ("opened", "held")]
    assert ends == ["settled", "settled", "settled", "voided", "charged", "confidence"]


@pytest.mark.parametrize("in_process", [True, False])
def test_what_takes_effect_unheard_is_on_the_books_once(in_process: bool) -> None:
    """The answer is lost, the command is sent again: by hold or by key it counts once."""
    store = UnreliableStore(in_process=in_process)
    manager = manager_on(store)
    hold = manager.reserve("writer", 100)
    store.loses_answers = True
    hold.settle(60)
    manager.record_usage("critic", 7)
    store.loses_answers = False
    assert manager.flush()
    assert {name: one.consumed for name, one in manager.accounts().items()} == {
        "critic": 7,
        "writer": 60,
    }
    assert manager.unposted.refused == 0


def test_a_governed_function_keeps_its_result(store: UnreliableStore) -> None:
    """The store goes down during the call: the caller gets the result, the books the usage."""
    manager = manager_on(store)

    @manager.govern("writer", usage_fn=lambda _: 42)
    def write() -> str:
        store.down = True
        return "the answer"

    assert write() == "the answer"
    store.down = False
    assert manager.flush()
    assert manager.report()["writer"]["consumed"] == 42


def test_a_hold_block_keeps_its_error(store: UnreliableStore) -> None:
    """What the block raised leaves it, whatever the store says to the settlement."""
    manager = manager_on(store)

    def fail() -> None:
        store.down = True
        msg = "mine"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="mine"), manager.reserve("writer", 100):
        fail()
    store.down = False
    assert manager.flush()
    assert manager.accounts()["writer"].unmeasured == 100


def test_a_cancelled_settlement_is_posted_all_the_same() -> None:
    """The task that settles is cancelled while the store has not answered."""

    class Hangs(UnreliableStore):
        async def aapply(self, scope: str, command: Any) -> Any:
            if isinstance(command, Settle):
                asked.set()
                await asyncio.Event().wait()
            return await super().aapply(scope, command)

    store = Hangs()
    manager = manager_on(store)

    async def main() -> None:
        hold = await manager.areserve("writer", 100)
        task = asyncio.create_task(hold.settle(70))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asked = asyncio.Event()
    asyncio.run(main())
    assert manager.flush()
    assert manager.report()["writer"]["consumed"] == 70
