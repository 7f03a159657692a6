"""Scripts and connections of the Redis store: restarts, clusters, forks, loops and threads."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from tests.core.stores.redis_store.conftest import ONE, charge_and_leave, read
from tests.core.stores.servers import RedisServer

from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Close,
    Command,
    Confidence,
    Expire,
    Extend,
    Finish,
    Granted,
    Open,
    Posted,
    Refuse,
    Reserve,
    Settle,
    TopUp,
    Transfer,
    Void,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError
from tbcontracts.stores.redis import RedisStore
from tbcontracts.stores.redis_options import RedisOptions
from tbcontracts.testing.checking import ManualClock
from tbcontracts.testing.conformance import check_threads
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import difference

SOAK = os.environ.get("TBC_SOAK") == "1"


def test_a_server_that_forgot_the_scripts_gets_them_again(
    store: RedisStore, client: redis.Redis
) -> None:
    """After SCRIPT FLUSH, for both doors; nothing is carried out twice."""
    store.apply("s", ONE)
    store.apply("s", Charge("a", 1))
    client.script_flush()
    store.apply("s", Charge("a", 1))
    client.script_flush()
    assert asyncio.run(charge_and_leave(store)).seq == 4
    assert read(store).accounts[0].consumed == 3


EVERYTHING: tuple[Command, ...] = (
    Open((BudgetContract("a", 1, 100), BudgetContract("b", 2, 100))),
    Reserve("b", 150, "h", key="k"),
    Extend("h", 60.0),
    Settle("h", "b", 170, final=False),
    Settle("h", "b", 160),
    Charge("a", 5),
    Reserve("a", 1, "v"),
    Void("v"),
    Refuse("a", 5, "unbounded"),
    Confidence("a", 0.5),
    TopUp(None, 10),
    Transfer(None, "a", 5),
    ChangeContract(BudgetContract("a", 1, 120)),
    Finish("a"),
    Expire(),
    Close(),
)


def test_a_cluster_takes_every_command(tmp_path: Path) -> None:
    """All keys of a scope are named and lie in one slot, whatever its name; others elsewhere."""
    server = RedisServer(tmp_path / "redis", {"cluster-enabled": "yes"}).start()
    store = RedisStore.from_url(server.url)
    with closing(redis.Redis.from_url(server.url)) as client:
        ask = cast("Any", client).execute_command
        ask("CLUSTER", "ADDSLOTS", *range(16_384))
        while b"cluster_state:ok" not in ask("CLUSTER", "INFO"):
            pass
        for scope in ("s", "acme/{odd}", "}{", "100%7D"):
            reference = Reference()
            for command in EVERYTHING:
                reply = store.apply(scope, command).reply
                expected = reference.step(command, 0.0)
                statement = store.read(scope)
                if isinstance(reply, Granted):
                    reply = reply._replace(expires_at=600.0)
                assert difference(reply, expected, statement, reference) is None, command
            assert isinstance(store.resolve(scope, "k"), Granted)
            slots = {ask("CLUSTER", "KEYSLOT", key) for key in RedisOptions("", "").keys(scope)}
            assert len(slots) == 1
        assert store.scopes() == tuple(sorted(("s", "acme/{odd}", "}{", "100%7D")))
    store.close()
    server.kill()


def test_books_of_a_later_version_are_left_alone(store: RedisStore, client: redis.Redis) -> None:
    """What a newer package has written, an older one neither reads nor changes."""
    store.apply("s", ONE)
    meta = store._options.keys("s")[0]
    newer = "redis.call('SET', KEYS[1], cmsgpack.pack({9, 'epoch', 7, 0, 0, 0, false, 0}))"
    client.eval(newer, 1, meta)
    before = client.get(meta)
    for ask in (lambda: store.read("s"), lambda: store.apply("s", Charge("a", 1))):
        with pytest.raises(StoreError, match=r"layout 9.*newer tbcontracts"):
            ask()
    assert client.get(meta) == before


def test_a_forked_child_has_connections_of_its_own(redis_server: RedisServer, prefix: str) -> None:
    """Parent and child charge at the same time, and each hears its own answers."""
    code = f"""
import os
from tbcontracts import BudgetContract, open_store
from tbcontracts.commands import Charge, Open
store = open_store({redis_server.url!r} + "?ledger_prefix={prefix}")
store.apply("s", Open((BudgetContract("a", max_tokens=1000),)))
children = []
for amount in (1, 10, 100):
    child = os.fork()
    if not child:
        for _ in range(50):
            assert store.apply("s", Charge("a", amount)).reply.amount == amount
        os._exit(0)
    children.append(child)
for _ in range(50):
    assert store.apply("s", Charge("a", 1000)).reply.amount == 1000
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
print(store.read("s").accounts[0].consumed)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "55550"


def test_each_event_loop_has_connections_of_its_own(store: RedisStore) -> None:
    """One store serves many loops, one after another."""
    store.apply("s", ONE)
    for number in range(3):
        assert asyncio.run(charge_and_leave(store)).seq == 2 + number


def connections(store: RedisStore) -> list[Any]:
    """Return the connections of the running event loop."""
    pool = store._awaited[asyncio.get_running_loop()]._pool
    return [*pool._available_connections, *pool._in_use_connections]


def test_an_event_loop_that_ends_closes_its_connections(store: RedisStore) -> None:
    """Nobody has to: neither after the work, nor for what comes late, after `aclose`."""
    store.apply("s", ONE)

    async def charge(*, leave: bool) -> list[Any]:
        if leave:
            await charge_and_leave(store)
        await asyncio.gather(*(store.aapply("s", Charge("a", 1)) for _ in range(3)))
        opened = connections(store)
        assert len([one for one in opened if one.is_connected]) == 3
        return opened

    for leave in (False, True):
        assert not [one for one in asyncio.run(charge(leave=leave)) if one.is_connected]


@pytest.mark.filterwarnings("ignore:(unclosed|loop is closed):ResourceWarning")
def test_an_event_loop_that_was_not_shut_down_is_forgotten(store: RedisStore) -> None:
    """Closed in haste, it does not stay in memory with its connections for as long as the store."""
    store.apply("s", ONE)
    left: list[weakref.ref[Any]] = []
    for _ in range(3):
        with closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(store.aapply("s", Charge("a", 1)))
            left.append(weakref.ref(loop))
        del loop
    assert asyncio.run(charge_and_leave(store)).seq == 5
    gc.collect()
    assert [one() for one in left] == [None] * 3


def test_a_cancelled_task_leaves_no_answer_behind(store: RedisStore) -> None:
    """The next command on that loop does not hear what was meant for the cancelled one."""
    store.apply("s", ONE)

    async def cancel_some() -> int:
        total = 0
        for number in range(1, 30):
            task = asyncio.ensure_future(store.aapply("s", Charge("a", 0, key=f"k{number}")))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            reply = (await store.aapply("s", Charge("a", number))).reply
            assert isinstance(reply, Posted)
            assert reply.amount == number
            total += number
        await store.aclose()
        return total

    assert asyncio.run(cancel_some()) == read(store).accounts[0].consumed


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_threads_are_replayed_without_a_mismatch(redis_server: RedisServer, prefix: str) -> None:
    """What 16 threads do to a scope at the same time has one order; a million commands to soak."""

    def make(clock: ManualClock) -> RedisStore:
        return RedisStore.from_url(f"{redis_server.url}?ledger_prefix={prefix}", clock=clock)

    check_threads(make, commands=62_500 if SOAK else 100, seed=11)
