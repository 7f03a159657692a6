"""Redis over connections that break, servers killed, power cut: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from tests.core.stores.powercut import PowerCut
from tests.core.stores.servers import Proxy, RedisServer

from tbcontracts.books import Statement
from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Granted,
    Open,
    Posted,
    Reply,
    Reserve,
    TopUp,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import OutcomeUnknownError, StoreError, UnknownAgentError
from tbcontracts.events import JournalEntry
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Clock, Store
from tbcontracts.stores.redis import RedisStore
from tbcontracts.testing.checking import ManualClock
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import Commands, difference, outcome

SOAK = os.environ.get("TBC_SOAK") == "1"
ONE = Open((BudgetContract("a", max_tokens=1_000_000, min_reserve=0),))
_prefixes = count()


class Faults:
    """What happens to requests: at random, or what a test says next."""

    def __init__(self, seed: int = 0, share: float = 0.0) -> None:
        self._chance = random.Random(seed)
        self._share = share
        self.next: list[str] = []

    def __call__(self) -> str:
        """Return the fault of the next request."""
        if self.next:
            return self.next.pop(0)
        if self._chance.random() >= self._share:
            return ""
        return self._chance.choice(("before", "drop", "reply", "reply", "twice"))


@pytest.fixture
def faults() -> Faults:
    """Return faults; none until a test says so."""
    return Faults()


@pytest.fixture
def proxy(redis_server: RedisServer, faults: Faults) -> Iterator[Proxy]:
    """Return a proxy before the server."""
    with closing(Proxy(redis_server.port, faults)) as proxy:
        yield proxy


def opened(
    url: str, clock: Clock | None = None, deadline_s: float = 10.0, options: str = ""
) -> RedisStore:
    """Open a ledger that does not exist yet."""
    options += f"&ledger_prefix=faults-{next(_prefixes)}&keep_holds_s=1e9&deadline_s={deadline_s}"
    return RedisStore.from_url(f"{url}?{options}", clock=clock)


def read(store: Store) -> Statement:
    """Return the books, which must be there."""
    statement = store.read("s")
    assert statement is not None
    return statement


@pytest.mark.parametrize("seed", range(100 if SOAK else 6))
def test_whatever_is_cut_each_command_takes_effect_once(
    seed: int, redis_server: RedisServer
) -> None:
    """Requests and replies are lost, doubled and late; every answer is the reference's.

    A copy that was held back is delivered after the one that was sent in its place was answered:
    it must change nothing, whether that one was granted, refused, or an error.
    """
    commands, late, clock = 120, 0, ManualClock()
    maker, reference, heard = Commands(random.Random(seed)), Reference(), list[JournalEntry]()
    with (
        closing(Proxy(redis_server.port, Faults(seed, 0.4))) as proxy,
        closing(opened(proxy.url, clock)) as store,
        closing(asyncio.new_event_loop()) as loop,
    ):
        command: Command = maker.opening()
        pause_s = 0.0
        for number in range(commands):
            clock.advance(pause_s)

            def carry_out(command: Command = command, awaited: bool = number % 2 > 0) -> Reply:
                if awaited:
                    applied = loop.run_until_complete(store.aapply("s", command))
                else:
                    applied = store.apply("s", command)
                heard.extend(applied.entries)
                return applied.reply

            def expect(command: Command = command) -> Reply:
                return reference.step(command, clock())

            reply, expected = outcome(carry_out), outcome(expect)
            assert difference(reply, expected, read(store), reference) is None, command
            late += proxy.deliver_late()
            assert difference(None, None, read(store), reference) is None, f"late: {command}"
            command, pause_s = maker.next()
        assert [entry.seq for entry in heard] == list(range(1, read(store).seq + 1))
        assert tuple(heard) == store.journal("s")
        loop.run_until_complete(store.aclose())
        assert proxy.faults > commands / 5
    assert late


@pytest.mark.timeout(3_600 if SOAK else 120)
def test_no_charge_is_posted_twice(redis_server: RedisServer) -> None:
    """Charges without a key of their own, over a connection that breaks at every second one."""
    charges = 10_000 if SOAK else 300
    with closing(Proxy(redis_server.port, Faults(7, 0.5))) as proxy:
        store = opened(proxy.url)
        store.apply("s", ONE)
        for number in range(charges):
            store.apply("s", Charge("a", 1))
            if number % 10 == 0:
                proxy.deliver_late()
        proxy.deliver_late()
        assert read(store).accounts[0].consumed == charges
        assert proxy.faults > charges / 4
        store.close()


@pytest.mark.parametrize("awaited", [False, True])
def test_a_server_that_is_silent_is_asked_again(
    awaited: bool, proxy: Proxy, faults: Faults
) -> None:
    """After a time-out the same call goes over another connection, and hears its own answer."""
    store = opened(proxy.url, options="&socket_timeout=0.3")
    store.apply("s", ONE)

    async def charge(amount: int) -> object:
        reply = (await store.aapply("s", Charge("a", amount))).reply
        await store.aclose()
        return reply

    for amount in (1, 10, 100):
        faults.next = ["silent", "silent"]
        plain = Charge("a", amount)
        posted = asyncio.run(charge(amount)) if awaited else store.apply("s", plain).reply
        assert isinstance(posted, Posted)
        assert posted.amount == amount
    assert read(store).accounts[0].consumed == 111
    assert proxy.faults == 6
    store.close()


def test_a_denied_copy_is_not_granted_later(proxy: Proxy, faults: Faults) -> None:
    """A hold is refused to whoever asked again; then budget comes, and then its first copy does."""
    store = opened(proxy.url)
    store.apply("s", Open((BudgetContract("a", max_tokens=10, min_reserve=0),)))
    faults.next = ["before"]
    reply = store.apply("s", Reserve("a", 50, "h")).reply
    assert isinstance(reply, Denied)
    store.apply("s", TopUp("a", 100))
    assert proxy.deliver_late() == 1
    assert read(store).accounts[0].held == 0
    assert isinstance(store.apply("s", Reserve("a", 50, "h")).reply, Granted), "a new call may"
    store.close()


def test_a_copy_that_was_refused_with_an_error_is_not_carried_out_later(
    proxy: Proxy, faults: Faults
) -> None:
    """The same for an agent that is opened in between: for holds, and for charges."""
    store = opened(proxy.url)
    store.apply("s", ONE)
    commands: tuple[Command, ...] = (Reserve("b", 5, "h"), Charge("b", 5), Charge("b", 5, key="k"))
    for command in commands:
        faults.next = ["before"]
        with pytest.raises(UnknownAgentError):
            store.apply("s", command)
    store.apply("s", Open((BudgetContract("b", max_tokens=10),)))
    assert proxy.deliver_late() == 3
    late = read(store).accounts[1]
    assert (late.held, late.consumed) == (0, 0)
    assert isinstance(store.apply("s", Charge("b", 5, key="k")).reply, Posted), "the key is free"
    store.close()


def test_after_the_deadline_the_outcome_is_unknown_and_can_be_found_out(
    proxy: Proxy, faults: Faults
) -> None:
    """It took effect, or it did not; the key or the hold's id tells."""
    store = opened(proxy.url, deadline_s=0.01)
    store.apply("s", ONE)
    told = {}
    for command, fault in (
        (Charge("a", 1, key="did"), "reply"),
        (Charge("a", 2, key="did not"), "drop"),
        (Reserve("a", 3, "held"), "reply"),
        (Reserve("a", 4, "not held"), "drop"),
        (Charge("a", 5), "reply"),
    ):
        faults.next = [fault] * 50
        with pytest.raises(OutcomeUnknownError, match="is not known") as unknown:
            store.apply("s", command)
        faults.next = []
        told[unknown.value.key] = store.resolve("s", unknown.value.key)
    assert list(told)[:4] == ["did", "did not", "held", "not held"]
    did, did_not, held, not_held, without_key = told.values()
    assert isinstance(did, Posted)
    assert isinstance(held, Granted)
    assert isinstance(without_key, Posted)
    assert (did_not, not_held) == (None, None)
    assert (read(store).accounts[0].consumed, read(store).accounts[0].held) == (6, 3)
    store.close()


def test_a_server_that_cannot_be_reached_is_told_apart(tmp_path: Path) -> None:
    """Where nothing was sent, nothing was written, and nobody has to find out anything."""
    server = RedisServer(tmp_path / "redis").start()
    store = opened(server.url, deadline_s=0.05)
    store.apply("s", ONE)
    server.kill()
    with pytest.raises(StoreError, match=r"did not answer.*Nothing was written") as refused:
        store.apply("s", Charge("a", 1))
    assert not isinstance(refused.value, OutcomeUnknownError)
    store.close()


def charge_until_cut(url: str, cut: threading.Event, acknowledged: list[int]) -> None:
    """Charge one by one, noting what was acknowledged, until the server is gone."""
    store = open_store(url)
    try:
        while not cut.is_set():
            store.apply("s", Charge("a", 1, key=f"{threading.get_ident()}-{len(acknowledged)}"))
            acknowledged.append(1)
    except StoreError:
        pass
    finally:
        store.close()


ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


@pytest.mark.parametrize("how", ["killed", "cut off"])
@pytest.mark.parametrize("trial", range(200 if SOAK else 2))
def test_what_was_acknowledged_survives(how: str, trial: int, tmp_path: Path) -> None:
    """With `appendfsync always`: after kill -9, and after a power cut in the middle of charges.

    More than was acknowledged may be there, by what was on its way: one charge for each thread.
    """
    threads, wanted = 4, 50
    power = PowerCut(tmp_path)
    server = RedisServer(tmp_path / "redis", ALWAYS, power.environment).start()
    url = f"{server.url}?ack=aof&deadline_s=0.01"
    first = open_store(url)
    first.apply("s", ONE)
    cut, acknowledged = threading.Event(), [list[int]() for _ in range(threads)]
    workers = [
        threading.Thread(target=charge_until_cut, args=(url, cut, mine)) for mine in acknowledged
    ]
    for worker in workers:
        worker.start()
    while sum(map(len, acknowledged)) < wanted + 7 * trial:
        cut.wait(0.001)
    server.kill()
    cut.set()
    for worker in workers:
        worker.join(60)
    if how == "cut off":
        power.strike((tmp_path / "redis" / "appendonlydir").iterdir())
    server.start()
    statement = read(first)
    there = statement.accounts[0].consumed
    assert sum(map(len, acknowledged)) <= there <= sum(map(len, acknowledged)) + threads
    assert len(first.journal("s")) == statement.seq
    first.close()
    server.kill()


def test_the_recorder_of_power_cuts_takes_away_what_was_not_synced(tmp_path: Path) -> None:
    """So the tests above can fail: without syncs, acknowledged charges are lost."""
    power = PowerCut(tmp_path)
    settings = {"appendonly": "yes", "appendfsync": "no"}
    server = RedisServer(tmp_path / "redis", settings, power.environment).start()
    store = opened(server.url)
    store.apply("s", ONE)
    for _ in range(20):
        store.apply("s", Charge("a", 1))
    server.kill()
    assert power.strike((tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")) > 0
    server.start()
    assert store.read("s") is None
    store.close()
    server.kill()
