"""Users' code around a manager, as type checkers see it. Checked by mypy and pyright, never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false

from __future__ import annotations

from collections.abc import Callable, Mapping

from typing_extensions import assert_type

from tbcontracts import (
    AsyncHold,
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ConfidenceGateError,
    Hold,
    Usage,
)
from tbcontracts.books import AccountView
from tbcontracts.commands import Posted
from tbcontracts.events import JournalEntry, Move


def what_it_returns(manager: BudgetManager) -> None:
    assert_type(manager.register_agent("writer", priority=2, max_tokens=900), BudgetContract)
    assert_type(manager.remaining("writer"), int)
    assert_type(manager.report(), dict[str, dict[str, int]])
    assert_type(manager.accounts(), dict[str, AccountView])
    assert_type(manager.journal(), tuple[JournalEntry, ...])
    assert_type(manager.contracts, Mapping[str, BudgetContract])
    assert_type(manager.finish("writer"), int)
    assert_type(manager.record_usage("writer", 12), Posted)
    assert_type(manager.record_usage("writer", Usage(input_tokens=3), confidence=0.9), Posted)
    assert_type(manager.scope("acme/run-7"), BudgetManager)
    assert_type(manager.within(manager, agent="team"), BudgetManager)


def a_hold(manager: BudgetManager) -> None:
    hold = manager.reserve("writer", 100, key="k", ttl_s=30, wait_s=2.5)
    assert_type(hold, Hold)
    assert_type(hold.settle(Usage(input_tokens=3, output_tokens=4)), Posted)
    assert_type(hold.settle(7).overdraft, int)
    assert_type(hold.moves, tuple[Move, ...])
    with manager.reserve("writer", 100) as inner:
        assert_type(inner, Hold)
        inner.settle(90)
    with manager.acting_as("writer") as nothing:
        assert_type(nothing, None)


async def an_awaited_hold(manager: BudgetManager) -> None:
    hold = await manager.areserve("writer", 100)
    assert_type(hold, AsyncHold)
    assert_type(await hold.settle(90), Posted)
    async with await manager.areserve("writer", 100) as inner:
        assert_type(inner, AsyncHold)
        await inner.void()
    assert_type(await manager.areport(), dict[str, dict[str, int]])
    assert_type(await manager.afinish("writer"), int)


def a_refusal(manager: BudgetManager) -> None:
    try:
        manager.reserve("writer", 10_000)
    except ConfidenceGateError as refused:
        assert_type(refused.score, float)
    except BudgetExceededError as refused:
        assert_type(refused.agent_name, str)
        assert_type(refused.available, int)
        assert_type(refused.lacking, int)
        assert_type(refused.reason, str)


def listen(scope: str, entry: JournalEntry) -> None:
    assert_type(entry.kind in scope, bool)


def listeners(manager: BudgetManager) -> None:
    remove = manager.add_listener(listen)
    assert_type(remove, Callable[[], None])
    manager.add_listener(lambda scope, entry: (scope, entry.kind))
    BudgetManager(telemetry=listen)
    manager.add_listener(wants_a_number)  # type: ignore[arg-type]


def wants_a_number(number: int) -> None:
    assert_type(number, int)


def mistakes(manager: BudgetManager) -> None:
    manager.reserve("writer")  # type: ignore[call-arg]
    manager.reserve("writer", "many")  # type: ignore[arg-type]
    manager.reserve("writer", 10, "key")  # type: ignore[call-arg]
    manager.record_usage("writer", 1.5)  # type: ignore[arg-type]
    BudgetManager("memory://")  # type: ignore[call-arg]
    Usage(3, 4)  # type: ignore[call-arg]
    with manager.areserve("writer", 10):  # type: ignore[attr-defined]
        pass
    BudgetContract("writer").max_tokens = 5  # type: ignore[misc]
