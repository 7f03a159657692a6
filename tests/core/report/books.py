"""Books for the tests of the report: kept by the real rules, with every moment written down."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from tbcontracts.books import Books, Statement, state_of
from tbcontracts.commands import Command, Denied, Granted, Open, Reserve, Settle
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import TBCError
from tbcontracts.events import JournalEntry
from tbcontracts.rules import step
from tbcontracts.testing.strategies import Choices, Commands
from tbcontracts.usage import Usage

START = 1_764_042_000.0


class History(NamedTuple):
    """What happened, and what the books were after each command."""

    statement: Statement
    journal: tuple[JournalEntry, ...]
    moments: dict[int, Statement]
    """By the `seq` of the last entry of each command."""
    surplus: dict[int, dict[str, int]]
    """What each agent could have lent at that moment, as the rules themselves say."""


def kept(commands: Iterable[tuple[Command, float]]) -> History:
    """Carry out commands, each after some seconds."""
    books = Books(journal_entries_max=None)
    now, moments, surplus = START, {}, {}
    for command, pause_s in commands:
        now += pause_s
        try:
            step(books, command, now)
        except (TBCError, TypeError, ValueError):
            continue
        moments[books.seq] = state_of(books)
        surplus[books.seq] = {
            name: 0 if account.tracked else account.surplus
            for name, account in books.accounts.items()
        }
    return History(state_of(books), tuple(books.journal), moments, surplus)


def at_random(choices: Choices, commands: int) -> History:
    """Carry out commands at random, made to collide."""
    maker = Commands(choices)
    opening: list[tuple[Command, float]] = [(maker.opening(), 0.0)]
    return kept(opening + [maker.next() for _ in range(commands)])


def large(entries: int, agents: int = 40) -> History:
    """Return a journal with at least so many entries: most calls are paid for, many refused."""
    rnd = random.Random(7)
    books = Books(journal_entries_max=None)
    names = [f"agent {number}" for number in range(agents)]
    contracts = tuple(
        BudgetContract(name, priority=1 + at % 4, max_tokens=entries * 20)
        for at, name in enumerate(names)
    )
    now = START
    step(books, Open(contracts), now)
    while books.seq < entries:
        now += rnd.random()
        name, size = rnd.choice(names), rnd.randint(1, 2_000)
        if rnd.random() < 0.2:
            size += entries * 20 * agents
        hold_id = f"h{books.seq}"
        reply = step(books, Reserve(name, size, hold_id), now)
        if isinstance(reply, Granted):
            used = rnd.randint(1, 2_000)
            usage = Usage(input_tokens=used, measured=rnd.random() < 0.9)
            step(books, Settle(hold_id, name, used, usage, note="call"), now)
        else:
            assert isinstance(reply, Denied)
    return History(state_of(books), tuple(books.journal), {}, {})
