"""Calls that may go on while the store is down: they go out unheld, and are charged after."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

import pytest
from tests.core.outages.conftest import manager_on

from tbcontracts import BudgetExceededError, BudgetManager, StoreError
from tbcontracts.clamping import aoutput_cap, output_cap
from tbcontracts.errors import ConfigurationError
from tbcontracts.settings import Settings
from tbcontracts.sizing import CallShape
from tbcontracts.testing.unreliable_store import UnreliableStore
from tbcontracts.tokens import size_request


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged at level warning, but for the times in it."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_strict_and_allow_exclude_each_other() -> None:
    """A hold is what makes strict mode strict."""
    with pytest.raises(ConfigurationError, match="sends calls without a hold, and strict mode"):
        Settings(enforcement="strict", on_store_error="allow")
    assert Settings(on_store_error="allow").goes_without_store
    assert BudgetManager.from_config({"on_store_error": "allow"}).settings.goes_without_store


@pytest.mark.parametrize("settings", [{"on_store_error": "allow"}, {"enforcement": "observe"}])
@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_calls_go_without_the_store(
    store: UnreliableStore,
    settings: dict[str, str],
    door: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With "allow" and in observe mode; what they used is posted later, and said once each way."""
    manager = manager_on(store, **settings)
    store.down = True

    async def call_awaited() -> None:
        async with await manager.areserve("writer", 600) as hold:
            assert hold.unheld
            await hold.extend(60)
            await hold.settle(600)

    def call() -> None:
        with manager.reserve("writer", 600) as hold:
            assert hold.unheld
            hold.extend(60)
            hold.settle(600)

    for _ in range(4):
        asyncio.run(call_awaited()) if door == "awaited" else call()
    manager.reserve("critic", 100).void()
    assert manager.unposted[:2] == (5, 2_400)
    assert manager.unposted.unheld == 5
    store.down = False
    assert manager.flush()
    account = manager.accounts()["writer"]
    lent = 1_000 - 100  # what the critic could give, but for its reserve
    assert (account.consumed, account.overdraft) == (2_400, 2_400 - 1_000 - lent)
    assert manager.unposted == (0, 0, None, 0, 500, 5)
    printed = io.StringIO()
    manager.print_report(printed)
    assert "5 calls of this process went out without a hold" in printed.getvalue()
    assert "500 tokens that were posted late are not covered" in printed.getvalue()
    began, ended = warnings_in(caplog)
    assert began.startswith("The store does not answer: The store cannot be reached.")
    assert ended.startswith("The store answers again. It did not since ")
    assert ended.endswith("; 5 calls went out unheld.")


def test_holds_from_before_the_outage_stay_valid() -> None:
    """Their settlement replaces them; the unheld call comes on top."""
    store = UnreliableStore()
    manager = manager_on(store, on_store_error="allow")
    before = manager.reserve("writer", 300)
    store.down = True
    during = manager.reserve("writer", 300)
    assert not before.unheld
    watched = [one.hold_id for one in manager._engine.heartbeat._watched]
    assert watched == [before.hold_id]  # nobody prolongs a hold that is none
    before.settle(250)
    during.settle(200)
    store.down = False
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (450, 0)
    late = [
        entry.facts.get("late", False) for entry in manager.journal() if entry.kind == "settled"
    ]
    assert late == [False, True]


def test_a_hold_that_took_effect_unheard_is_the_one_that_is_settled() -> None:
    """With "allow" the call goes on; its settlement finds the hold that nobody knew of."""
    store = UnreliableStore()
    manager = manager_on(store, on_store_error="allow")
    manager.report()
    store.loses_answers = True
    hold = manager.reserve("writer", 300)
    store.loses_answers = False
    assert hold.unheld
    assert manager.accounts()["writer"].held == 300
    hold.settle(120)
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (120, 0)


def test_a_month_is_known_without_the_store() -> None:
    """A scope's name may need the store's time; a call that goes without it takes its own."""
    store = UnreliableStore()
    settings: dict[str, Any] = {"scope": "acme/{utc:%Y-%m}", "clock": lambda: 0.0}
    store.down = True
    with pytest.raises(StoreError):
        manager_on(store, **settings).reserve("writer", 10)
    manager = manager_on(store, on_store_error="allow", **settings)
    hold = manager.reserve("writer", 10)
    assert hold.scope == "acme/1970-01"
    hold.settle(10)
    store.down = False
    assert manager.flush()
    assert manager.scope("acme/1970-01").report()["writer"]["consumed"] == 10


def test_an_unknown_agent_is_still_the_programmers_mistake() -> None:
    """Neither mode lets it through."""
    manager = manager_on(UnreliableStore(), on_store_error="allow")
    with pytest.raises(KeyError):
        manager.reserve("nobody", 10)


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_a_refusal_that_needs_no_books_stays_one(door: str) -> None:
    """A name without a contract is refused with "allow", too, in the words that it always has."""
    store = UnreliableStore()
    shape = CallShape(size_request(["hello"]))

    def begin(manager: BudgetManager) -> object:
        if door == "awaited":
            return asyncio.run(manager.abegin_call("nobody", shape))
        return manager.begin_call("nobody", shape)

    store.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        begin(manager_on(store, unattributed="deny"))
    with pytest.raises(BudgetExceededError, match="nobody") as caught:
        begin(manager_on(store, unattributed="deny", on_store_error="allow"))
    assert caught.value.code == "unattributed"


def test_output_caps_are_left_alone_where_calls_go_on() -> None:
    """What is left is not known, so nothing is lowered; else the call is not sent."""
    store = UnreliableStore()
    shape = CallShape(size_request(["hello"]), output_cap=5_000)
    denying, allowing = manager_on(store), manager_on(store, on_store_error="allow")
    assert output_cap(allowing, "writer", shape) == output_cap(denying, "writer", shape) != 5_000
    store.down = True
    with pytest.raises(StoreError):
        output_cap(denying, "writer", shape)
    with pytest.raises(StoreError):
        asyncio.run(aoutput_cap(denying, "writer", shape))
    assert output_cap(allowing, "writer", shape) is None
    assert asyncio.run(aoutput_cap(allowing, "writer", shape)) is None
