"""Many loops, threads and scopes on one PostgreSQL, and books that are no longer kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.core.stores.postgres_faults.conftest import OPENING, SOAK, Connections, consumed, fresh

from tbcontracts.commands import Charge, Command, Reserve, Settle
from tbcontracts.stores import postgres_access
from tbcontracts.stores.postgres import PostgresStore
from tbcontracts.testing.history import Recorder, check_history
from tbcontracts.testing.strategies import Commands

COMMANDS = 6_250 if SOAK else 25  # of each of 16 threads
SCOPES = 16 if SOAK else 4


def pairs(name: int) -> Iterator[Command]:
    """Return commands of one caller: holds, each settled by its number."""
    for number in range(10):
        yield Reserve("a", 5, f"{name}-{number}")
        yield Settle(f"{name}-{number}", "a", number)


def test_loops_and_threads_at_once(near: PostgresStore, connections: Connections) -> None:
    """Several event loops and plain threads on one store: one order explains all of it."""
    scope, recorder = fresh(), Recorder()

    def thread(name: int) -> None:
        for command in pairs(name):
            recorder.record(command, lambda command: near.apply(scope, command))

    async def task(name: int) -> None:
        for command in pairs(name):
            await recorder.arecord(command, lambda command: near.aapply(scope, command))

    async def tasks(name: int) -> None:
        await asyncio.gather(*(task(name * 10 + own) for own in range(3)))

    def loop(name: int) -> None:
        asyncio.run(tasks(name))

    recorder.record(OPENING, lambda command: near.apply(scope, command))
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(thread, 1_000 + n) for n in range(4)]
        done += [pool.submit(loop, n) for n in range(4)]
        for one in done:
            one.result(100)
    statement = near.read(scope)
    assert statement is not None
    check_history(recorder.events, statement)
    assert consumed(near, scope) == 16 * sum(range(10))
    connections.check(near)
    assert len(connections.made) <= 8 + postgres_access.CLERKS_MOST


def test_what_callers_did_to_many_scopes_is_replayed(near: PostgresStore) -> None:
    """Random commands of 16 threads to any of the scopes: the reference gives the same answers."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    scopes = [fresh("replayed") for _ in range(SCOPES)]
    recorders = {scope: Recorder() for scope in scopes}
    opening = Commands(random.Random(seed)).opening()

    def give(scope: str, command: Command) -> None:
        recorders[scope].record(command, lambda command: near.apply(scope, command))

    def call(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")
        makers = {scope: Commands(chance, f"{scope}-{number}-") for scope in scopes}
        for _ in range(COMMANDS):
            scope = chance.choice(scopes)
            give(scope, makers[scope].next()[0])

    for scope in scopes:
        give(scope, opening)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))
    assert sum(len(one.events) for one in recorders.values()) == SCOPES + 16 * COMMANDS
    for scope, recorder in recorders.items():
        statement = near.read(scope)
        assert statement is not None
        check_history(recorder.events, statement)


def test_books_that_are_no_longer_kept(
    near: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More scopes than are kept in memory: those that come back are read again."""
    monkeypatch.setattr(postgres_access, "SCOPES_KEPT", 3)
    scopes = [fresh() for _ in range(8)]
    for scope in scopes:
        near.apply(scope, OPENING)
    for number in range(3):
        for scope in scopes:
            near.apply(scope, Charge("a", 1, key=f"{number}"))
            near.apply(scope, Charge("a", 1, key=f"{number}"))
    assert len(near._ledger._lines) == 3
    assert {consumed(near, scope) for scope in scopes} == {3}
