"""No hold while the store is down: no call goes out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.outages.conftest import manager_on

from tbcontracts import StoreError
from tbcontracts.testing.unreliable_store import UnreliableStore


def test_no_hold_is_given_while_the_store_is_down(store: UnreliableStore) -> None:
    """The error has the store's words, whether the scope was open before or not."""
    manager = manager_on(store)
    for scope in ("new", "default"):
        store.down = True
        with pytest.raises(StoreError, match=r"cannot be reached\. What helps: plug it in"):
            manager.scope(scope).reserve("writer", 100)
        store.down = False
        manager.report()
    assert manager.reserve("writer", 1_000).moves == ()  # nothing was held by the failed ones


def test_a_governed_function_is_not_called_while_the_store_is_down(store: UnreliableStore) -> None:
    """Plain and awaited functions."""
    manager = manager_on(store)
    called: list[str] = []

    @manager.govern("writer")
    def write() -> None:
        called.append("write")

    @manager.govern("critic")
    async def judge() -> None:
        called.append("judge")

    store.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        write()
    with pytest.raises(StoreError, match="cannot be reached"):
        asyncio.run(judge())
    assert called == []
    store.down = False
    write()
    asyncio.run(judge())
    assert called == ["write", "judge"]


def test_a_parent_gets_its_hold_back_when_the_childs_store_is_down() -> None:
    """And when the parent's goes down, too, it gets it back as soon as it answers."""
    above, below = UnreliableStore(), UnreliableStore()
    parent = manager_on(above)
    child = manager_on(below).within(parent, agent="writer")
    child.report()
    below.down = True
    with pytest.raises(StoreError):
        child.reserve("critic", 300)
    assert parent.accounts()["writer"].held == 0

    def both_down(_: object) -> None:
        above.down = below.down = True
        below.now()

    below.down = False
    below.before = both_down
    with pytest.raises(StoreError):
        child.reserve("critic", 300)
    above.down = False
    assert parent.flush()
    assert parent.accounts()["writer"].held == 0


@pytest.mark.parametrize("bad", ["1", True, -1, float("nan")])
def test_a_timeout_is_a_number_of_seconds(bad: Any) -> None:
    """Anything else is refused, at both doors."""
    manager = manager_on(UnreliableStore())
    with pytest.raises((TypeError, ValueError), match="timeout_s"):
        manager.flush(bad)
    with pytest.raises((TypeError, ValueError), match="timeout_s"):
        asyncio.run(manager.aflush(bad))
