"""What became of a command without an answer: found by the key of the error."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tests.core.outages.conftest import manager_on

from tbcontracts import Hold, OutcomeUnknownError, StoreError
from tbcontracts.commands import Posted
from tbcontracts.testing.unreliable_store import UnreliableStore


@pytest.mark.parametrize("key", [None, "job-17"])
@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_an_unknown_hold_is_found_by_the_key_of_the_error(key: str | None, door: str) -> None:
    """`resolve` says what came of it, and asking again with that key returns that hold, once."""
    store = UnreliableStore()
    manager = manager_on(store)
    manager.report()
    store.loses_answers = True

    def ask() -> object:
        if door == "awaited":
            return asyncio.run(manager.areserve("writer", 300, key=key))
        return manager.reserve("writer", 300, key=key)

    with pytest.raises(OutcomeUnknownError, match=r"manager.resolve\('") as caught:
        ask()
    store.loses_answers = False
    named = caught.value.key
    assert key in (None, named)
    granted = manager.resolve(named)
    assert granted is not None
    assert granted.agent == "writer"  # type: ignore[union-attr]
    hold: Hold = manager.reserve("writer", 300, key=named)
    assert hold.hold_id == granted.hold_id  # type: ignore[union-attr]
    assert manager.accounts()["writer"].held == 300
    hold.settle(200)
    assert manager.report()["writer"] == {"allocated": 1_000, "consumed": 200, "remaining": 800}


@pytest.mark.parametrize("key", [None, "grant-1"])
def test_an_unknown_top_up_is_found_by_the_key_of_the_error(key: str | None) -> None:
    """Once, whichever way it is asked for again."""
    store = UnreliableStore()
    manager = manager_on(store)
    manager.report()
    store.loses_answers = True
    with pytest.raises(OutcomeUnknownError) as caught:
        manager.top_up("writer", 500, key=key)
    store.loses_answers = False
    assert manager.resolve(caught.value.key) is not None
    manager.top_up("writer", 500, key=caught.value.key)
    assert manager.report()["writer"]["allocated"] == 1_500


def test_what_never_took_effect_is_not_found() -> None:
    """Then it may be done anew."""
    store = UnreliableStore()
    manager = manager_on(store)
    assert manager.resolve("job-17") is None
    store.down = True
    with pytest.raises(StoreError):
        manager.resolve("job-17")
    with pytest.raises(StoreError):
        manager.top_up("writer", 5, key="job-17")
    store.down = False
    assert manager.resolve("job-17") is None


def test_a_charge_that_waits_is_found() -> None:
    """It was not posted yet, and will be: to do it anew under another key would count twice."""
    store = UnreliableStore()
    manager = manager_on(store)
    store.down = True
    manager._engine.backlog._thread = threading.current_thread()  # this test is the thread
    manager.record_usage("writer", 40, key="job-17")
    waits = Posted("writer", 40, 0, (), 0)
    assert manager.resolve("job-17") == waits
    assert asyncio.run(manager.aresolve("job-17")) == waits
    store.down = False
    assert manager.flush()
    posted = manager.resolve("job-17")
    assert posted is not None
    assert posted.seq > 0
    assert manager.record_usage("writer", 40, key="job-17") == posted
    assert manager.report()["writer"]["consumed"] == 40
