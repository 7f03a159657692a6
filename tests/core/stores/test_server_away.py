"""A real server that goes away during a call, and comes back: the books have it all, once."""

from __future__ import annotations

import asyncio
import signal

import pytest
from tests.core.stores.postgres_server import PostgresServer

from tbcontracts import BudgetManager, StoreError, open_store
from tbcontracts.stores import postgres_access
from tbcontracts.stores.postgres import PostgresStore


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_postgresql_is_stopped_during_a_call(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """No hold while it is away, no error at the end of a call, and nothing lost when it is back."""
    monkeypatch.setattr(postgres_access, "_PAUSES_S", (0.0, 0.0))
    store = open_store(f"{postgres.url}?ledger_schema=away_{door}")
    assert isinstance(store, PostgresStore)
    manager = BudgetManager(store=store)
    allowing = BudgetManager(store=store, scope="allowing", on_store_error="allow")
    for one in (manager, allowing):
        one.register_agent("writer", max_tokens=1_000)
        one.report()

    async def awaited() -> None:
        hold = await manager.areserve("writer", 300)
        postgres.stop(signal.SIGQUIT)
        assert (await hold.settle(200)).seq == 0
        with pytest.raises(StoreError):
            await manager.areserve("writer", 300)
        await (await allowing.areserve("writer", 300)).settle(250)
        await manager.arecord_usage("writer", 30)

    def plain() -> None:
        hold = manager.reserve("writer", 300)
        postgres.stop(signal.SIGQUIT)
        assert hold.settle(200).seq == 0
        with pytest.raises(StoreError):
            manager.reserve("writer", 300)
        allowing.reserve("writer", 300).settle(250)
        manager.record_usage("writer", 30)

    try:
        if door == "plain":
            plain()
        else:
            asyncio.run(awaited())
    finally:
        postgres.start()
    assert manager.flush()
    assert allowing.flush()
    account, other = (one.accounts()["writer"] for one in (manager, allowing))
    assert (account.consumed, account.held) == (230, 0)
    assert (other.consumed, other.held) == (250, 0)
    assert allowing.unposted.unheld == 1
    store.close()
