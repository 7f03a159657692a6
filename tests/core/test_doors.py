"""Both doors: every method that touches the store has an awaited twin, and holds are alike."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Iterator
from typing import Any

import pytest

from tbcontracts import AsyncHold, BudgetExceededError, BudgetManager, Hold, TBCError, Usage
from tbcontracts.commands import Denied, Granted, Posted

# What asks no store, and so is not awaited.
AT_ONCE = frozenset(
    (
        "acting_as",
        "add_listener",
        "calling",
        "closing",
        "contract_in",
        "contract_of",
        "contracts",
        "count_text",
        "current_agent",
        "flush_listeners",
        "from_config",
        "govern",
        "granted",
        "identity",
        "is_registered",
        "is_view_of",
        "keeping_reserve",
        "learn",
        "price_of",
        "priced",
        "listener_entries_dropped",
        "on_threshold",
        "pattern_of",
        "patterns",
        "register",
        "register_agent",
        "register_pattern",
        "scope",
        "scope_name",
        "settings",
        "store",
        "unposted",
        "warn_once",
        "weighed",
        "within",
    )
)
# The published package's ledger was never awaited.
WITHOUT_TWIN = frozenset(("ledger",))
INTEGRATIONS = frozenset(("begin_call", "apply_to", "hold_more"))


def public(owner: type) -> Iterator[str]:
    """Yield the public names of a class."""
    yield from (name for name in dir(owner) if not name.startswith("_"))


def test_every_method_that_touches_the_store_has_a_twin() -> None:
    """With `a` in front, awaited, and with the same arguments."""
    names = set(public(BudgetManager))
    awaited = {n for n in names if inspect.iscoroutinefunction(getattr(BudgetManager, n))}
    at_once = names - awaited - AT_ONCE - WITHOUT_TWIN - INTEGRATIONS
    assert {f"a{name}" for name in at_once} == awaited - {f"a{name}" for name in INTEGRATIONS}
    for name in at_once:
        one = inspect.signature(getattr(BudgetManager, name)).parameters
        other = inspect.signature(getattr(BudgetManager, f"a{name}")).parameters
        assert list(one.values()) == list(other.values()), name


def test_the_two_holds_are_alike() -> None:
    """`AsyncHold` has what `Hold` has; what asks the store is awaited."""
    assert set(public(Hold)) <= set(public(AsyncHold)) | {"avoid", "asettle", "aextend"}
    for name in ("settle", "void", "extend"):
        assert inspect.iscoroutinefunction(getattr(AsyncHold, name))
        one = inspect.signature(getattr(Hold, name)).parameters
        other = inspect.signature(getattr(AsyncHold, name)).parameters
        assert list(one.values()) == list(other.values()), name


@pytest.fixture
def manager() -> BudgetManager:
    """Return a manager with two agents."""
    manager = BudgetManager(clock=lambda: 1_000.0)
    manager.register_agent("a", priority=2, max_tokens=1_000)
    manager.register_agent("b", max_tokens=1_000, min_reserve=400)
    return manager


def test_an_awaited_hold(manager: BudgetManager) -> None:
    """It says whose it is, for how long, and from whom; it is prolonged and ended once."""

    async def use() -> None:
        hold = await manager.areserve("a", 1_200, ttl_s=60)
        assert repr(hold) == "<AsyncHold 'a' 1,200 open>"
        assert (hold.agent_name, hold.tokens, hold.scope) == ("a", 1_200, "default")
        assert [(move.donor, move.amount) for move in hold.moves] == [("b", 200)]
        assert hold.expires_at == 1_060.0
        await hold.extend(90)
        assert manager.accounts()["a"].held == 1_200
        posted = await hold.settle(Usage(input_tokens=100, output_tokens=200))
        assert posted.amount == 300
        assert await hold.settle(300) == posted
        assert hold.resolved
        with pytest.raises(TBCError, match="settled with 300 before"):
            await hold.void()

    asyncio.run(use())
    assert manager.accounts()["a"].consumed == 300


def test_an_awaited_hold_as_a_context_manager(manager: BudgetManager) -> None:
    """Left without a word it is charged whole; a proof that nothing was billed gives it back."""

    class RejectedError(Exception):
        status_code = 429

    async def use() -> None:
        async with await manager.areserve("a", 100):
            pass
        with pytest.raises(RejectedError):
            async with await manager.areserve("a", 100):
                raise RejectedError
        with pytest.raises(asyncio.CancelledError):
            async with await manager.areserve("a", 50):
                raise asyncio.CancelledError
        async with await manager.areserve("a", 100) as hold:
            await hold.settle(10)

    asyncio.run(use())
    account = manager.accounts()["a"]
    assert (account.consumed, account.unmeasured, account.held) == (160, 150, 0)


@pytest.mark.parametrize("door", ["sync", "async"])
def test_what_came_of_a_key(manager: BudgetManager, door: str) -> None:
    """`resolve` tells a hold, a charge and a refusal by their keys, in the scope of their own."""

    def resolve(on: BudgetManager, key: str) -> Any:
        return on.resolve(key) if door == "sync" else asyncio.run(on.aresolve(key))

    hold = manager.reserve("a", 10, key="hold")
    manager.record_usage("a", 20, key="charge")
    with pytest.raises(BudgetExceededError):
        manager.reserve("b", 5_000, key="refusal")
    granted, posted, denied = (resolve(manager, key) for key in ("hold", "charge", "refusal"))
    assert isinstance(granted, Granted)
    assert granted.hold_id == hold.hold_id
    assert isinstance(posted, Posted)
    assert posted.amount == 20
    assert isinstance(denied, Denied)
    assert (denied.agent, denied.requested) == ("b", 5_000)
    assert resolve(manager, "never") is None
    assert resolve(manager.scope("elsewhere"), "hold") is None


def test_the_printed_report_is_awaited_too(manager: BudgetManager) -> None:
    """Both doors print the same."""
    manager.reserve("a", 1_200).settle(1_100)
    one, other = io.StringIO(), io.StringIO()
    manager.print_report(one)
    asyncio.run(manager.aprint_report(other))
    assert one.getvalue() == other.getvalue()
    assert "b -> a: 200" in one.getvalue()
