"""Charges of a manager: settled, recorded, left blocks, keys, and the same at both doors."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.manager.team import conserved, small_team

from tbcontracts import (
    BudgetExceededError,
    BudgetManager,
    IdempotencyConflictError,
    TBCError,
    Usage,
)


def test_usage_beyond_the_hold_is_posted_and_blocks_the_next_hold() -> None:
    """P5: what was billed is on the books even when it breaks the budget; the overdraft blocks."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    posted = manager.reserve("a", 100).settle(150)
    assert posted.overdraft == 50
    assert manager.remaining("a") == -50
    with pytest.raises(BudgetExceededError):
        manager.reserve("a", 1)
    manager.top_up("a", 51)
    manager.reserve("a", 1)


def test_record_usage_posts_first_and_raises_only_for_what_is_left_uncovered() -> None:
    """A charge is never lost: the error comes after the posting, and only for an overdraft."""
    manager = small_team()
    manager.record_usage("boss", 1_500)
    with pytest.raises(BudgetExceededError, match="on the books") as left:
        manager.record_usage("boss", 5_000)
    assert left.value.code == "overdraft"
    assert manager.accounts()["boss"].consumed == 6_500
    assert conserved(manager.statement())


def test_hold_ends_once() -> None:
    """The same end again is the first one; another one is an error and posts nothing."""
    manager = small_team()
    hold = manager.reserve("boss", 100)
    first = hold.settle(70)
    assert hold.settle(70) == first
    for again in (lambda: hold.settle(71), hold.void):
        with pytest.raises(TBCError, match="was settled with 70 before"):
            again()
    assert manager.accounts()["boss"].consumed == 70
    voided = manager.reserve("boss", 100)
    voided.void()
    voided.void()
    with pytest.raises(TBCError, match="was voided before"):
        voided.settle(1)
    assert manager.remaining("boss") == 930


@pytest.mark.parametrize("fail", [False, True])
def test_with_block_left_without_a_word_charges_the_hold(fail: bool) -> None:
    """A call that may have been billed is charged whole, unmeasured, whether it failed or not."""
    manager = small_team()
    try:
        with manager.reserve("boss", 300):
            if fail:
                raise ConnectionResetError
    except ConnectionResetError:
        pass
    account = manager.accounts()["boss"]
    assert (account.consumed, account.unmeasured, account.held) == (300, 300, 0)


def test_with_block_gives_back_what_an_http_error_proves_unbilled() -> None:
    """An HTTP error status on the exception, or on its cause, means that nothing was billed."""

    class ProviderError(Exception):
        status_code = 429

    manager = small_team()
    with pytest.raises(RuntimeError), manager.reserve("boss", 300):
        raise RuntimeError from ProviderError()
    account = manager.accounts()["boss"]
    assert (account.consumed, account.held) == (0, 0)


def test_an_earlier_http_error_proves_nothing_about_a_later_failure() -> None:
    """A time-out while handling a 429 is a second attempt: it may have been billed."""

    class ProviderError(Exception):
        status_code = 429

    manager = small_team()

    def second_attempt() -> None:
        try:
            raise ProviderError
        except ProviderError:
            raise TimeoutError  # noqa: B904 - just this implicit context is what is tested

    with pytest.raises(TimeoutError), manager.reserve("boss", 300):
        second_attempt()
    assert manager.accounts()["boss"].consumed == 300


def test_async_door_gives_equal_books() -> None:
    """The awaited methods do what their twins do."""

    def steps(manager: BudgetManager) -> None:
        with manager.reserve("boss", 1_500) as hold:
            hold.settle(Usage(input_tokens=10, output_tokens=1_300))
        manager.reserve("helper", 20).void()
        manager.record_usage("peer", 30, "note", 0.5)
        manager.top_up(None, 50)
        manager.finish("helper")
        manager.change_contract("peer", max_tokens=1_100)
        manager.reset_confidence("peer")
        manager.reserve("boss", 10).extend(60)

    async def asteps(manager: BudgetManager) -> None:
        async with await manager.areserve("boss", 1_500) as hold:
            await hold.settle(Usage(input_tokens=10, output_tokens=1_300))
        await (await manager.areserve("helper", 20)).void()
        await manager.arecord_usage("peer", 30, "note", 0.5)
        await manager.atop_up(None, 50)
        await manager.afinish("helper")
        await manager.achange_contract("peer", max_tokens=1_100)
        await manager.areset_confidence("peer")
        await (await manager.areserve("boss", 10)).extend(60)
        assert await manager.areport() == manager.report()
        assert await manager.aaccounts() == manager.accounts()
        assert await manager.ajournal() == manager.journal()
        assert await manager.aremaining("boss") == manager.remaining("boss")

    one, other = small_team(clock=lambda: 7.0), small_team(clock=lambda: 7.0)
    steps(one)
    asyncio.run(asteps(other))
    assert one.statement() == other.statement()
    strip = [entry._replace(hold_id=None) for entry in one.journal()]
    assert strip == [entry._replace(hold_id=None) for entry in other.journal()]


def test_keys_make_repeats_harmless() -> None:
    """The same key again returns the first hold or refusal; for something else it is an error."""
    manager = small_team()
    first = manager.reserve("boss", 100, key="k1")
    assert manager.reserve("boss", 100, key="k1").hold_id == first.hold_id
    assert manager.accounts()["boss"].held == 100
    with pytest.raises(IdempotencyConflictError, match="'k1'"):
        manager.reserve("boss", 101, key="k1")
    for _ in range(2):
        manager.record_usage("helper", 40, key="k2")
    assert manager.accounts()["helper"].consumed == 40
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 5_000, key="k3")
    manager.top_up(None, 5_000)
    with pytest.raises(BudgetExceededError):  # a delayed duplicate must not spend later
        manager.reserve("helper", 5_000, key="k3")
    assert manager.resolve("k2") is not None
    assert manager.resolve("never used") is None
