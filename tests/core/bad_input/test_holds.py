"""Holds that cannot be ended, extended or made again: refused, without a trace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.bad_input.conftest import (
    BAD_AMOUNTS,
    BAD_SECONDS,
    WRONG,
    Books,
    both_doors,
    seen,
    watched,
)

from tbcontracts import BudgetExceededError, IdempotencyConflictError
from tbcontracts.errors import ConfigurationError, HoldResolvedError, ScopeClosedError


def end(door: str, hold: Any, method: str, *args: Any) -> Any:
    """End or extend a hold at one of the two doors."""
    if door == "sync":
        return getattr(hold, method)(*args)

    async def awaited() -> Any:
        return await getattr(hold, method)(*args)

    return asyncio.run(awaited())


@both_doors
@pytest.mark.parametrize(
    ("first", "again", "words"),
    [
        (("settle", 70), ("settle", 71), "settled with 70 before; it cannot be settled with 71"),
        (("settle", 70), ("void",), "was settled with 70 before; it cannot be voided now"),
        (("void",), ("settle", 70), "was voided before; it cannot be settled with 70 now"),
        (("settle", 70), ("extend", 60), "is settled already and cannot be extended"),
        (("void",), ("extend", 60), "is voided already and cannot be extended"),
    ],
)
def test_a_hold_is_ended_once(
    books: Books, door: str, first: tuple[Any, ...], again: tuple[Any, ...], words: str
) -> None:
    """Another end is an error that says the first one; the same end again is the first one."""
    hold = books.call(door, "reserve", "boss", 100)
    reply = end(door, hold, *first)
    after = watched(books.manager)
    told = (words, hold.hold_id, "What helps")
    after.refuses(HoldResolvedError, told, end, door, hold, *again)
    assert end(door, hold, *first) == reply
    assert seen(books.manager) == after.before


@both_doors
@pytest.mark.parametrize("bad", BAD_AMOUNTS, ids=lambda bad: repr(bad)[:12])
def test_a_hold_settled_with_nonsense_stays_open(books: Books, door: str, bad: Any) -> None:
    """The error names the agent and the value, and the hold can still be ended rightly."""
    hold = books.call(door, "reserve", "boss", 100)
    after = watched(books.manager)
    words = ("The usage of agent 'boss' must be", BAD_AMOUNTS[bad])
    after.refuses(WRONG, words, end, door, hold, "settle", bad)
    assert not hold.resolved
    assert end(door, hold, "settle", 40).amount == 40


@both_doors
@pytest.mark.parametrize("bad", BAD_SECONDS)
def test_a_hold_is_not_extended_by_nonsense(books: Books, door: str, bad: Any) -> None:
    """The limit of a hold is a positive, finite number of seconds."""
    hold = books.call(door, "reserve", "boss", 100)
    after = watched(books.manager)
    words = ("ttl_s of the hold of agent 'boss' must be", repr(bad))
    after.refuses(WRONG, words, end, door, hold, "extend", bad)


@both_doors
def test_a_key_that_was_used_for_something_else(books: Books, door: str) -> None:
    """A key belongs to one command; blanks around it do not make another key of it."""
    books.call(door, "record_usage", "boss", 10, key="k")
    after = watched(books.manager)
    assert books.call(door, "record_usage", "boss", 10, key=" k ").amount == 10
    for method, tokens in (("record_usage", 11), ("reserve", 10), ("top_up", 10)):
        after.refuses(
            IdempotencyConflictError,
            ("'k'", "for another command or other arguments", "a new key"),
            *(books.call, door, method, "boss", tokens),
            key="k",
        )


@both_doors
def test_a_closed_scope_takes_nothing_new(books: Books, door: str) -> None:
    """Holds are refused as such, administration as an error; both say what helps."""
    books.call(door, "close_scope")
    after = watched(books.manager)
    with pytest.raises(
        BudgetExceededError, match=r"scope 'default' is closed.*another scope"
    ) as no:
        books.call(door, "reserve", "boss", 1)
    assert no.value.code == "scope_closed"
    assert books.manager.accounts()["boss"].held == 0
    after = watched(books.manager)
    for method, args, fields in (
        ("top_up", ("boss", 10), {}),
        ("top_up", (None, 10), {}),
        ("change_contract", ("boss",), {"max_tokens": 2_000}),
    ):
        after.refuses(
            ScopeClosedError,
            ("closed", "What helps: another scope"),
            books.call,
            door,
            method,
            *args,
            **fields,
        )


def test_a_hold_that_would_stop_the_loop(books: Books) -> None:
    """A blocking wait inside an event loop is refused with the call to make instead."""

    async def inside() -> None:
        books.manager.reserve("boss", 10, wait_s=1)

    words = ("would block the event loop", "await manager.areserve")
    books.refuses(ConfigurationError, words, asyncio.run, inside())
