"""The Redis store itself: URLs, what a server must be, scripts, donors in pages, forgetting."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from tests.core.stores.servers import RedisServer

from tbcontracts.books import Statement
from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Close,
    Command,
    Confidence,
    Denied,
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
from tbcontracts.errors import (
    ConfigurationError,
    LedgerRegressedError,
    OutcomeUnknownError,
    StoreError,
)
from tbcontracts.stores import open_store
from tbcontracts.stores.messagepack import unpack
from tbcontracts.stores.redis import RedisStore
from tbcontracts.stores.redis_options import RedisOptions
from tbcontracts.stores.redis_server import examine
from tbcontracts.testing.checking import ManualClock
from tbcontracts.testing.conformance import check_threads
from tbcontracts.testing.reference import Reference
from tbcontracts.testing.strategies import difference

SOAK = os.environ.get("TBC_SOAK") == "1"
ONE = Open((BudgetContract("a", max_tokens=1_000, min_reserve=0),))
_prefixes = count()


@pytest.fixture
def prefix() -> str:
    """Return a prefix that nobody has used."""
    return f"redis-{next(_prefixes)}"


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock."""
    return ManualClock()


@pytest.fixture
def store(redis_server: RedisServer, prefix: str, clock: ManualClock) -> Iterator[RedisStore]:
    """Return a store on a ledger that does not exist yet."""
    url = f"{redis_server.url}?ledger_prefix={prefix}"
    with closing(RedisStore.from_url(url, clock=clock)) as store:
        yield store


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """Return a client of the server, to look behind the store."""
    with closing(redis.Redis.from_url(redis_server.url)) as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a server that a test may put into any state."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()


def read(store: RedisStore) -> Statement:
    """Return the books, which must be there."""
    statement = store.read("s")
    assert statement is not None
    return statement


# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?ack=maybe", "ack must be"),
        ("redis://h?ack=replicas", "ack must be"),
        ("redis://h?ack=replicas=0", "ack must be"),
        ("redis://h?journal_max=0", "journal_max must be"),
        ("redis://h?journal_max=many", "journal_max must be"),
        ("redis://h?deadline_s=nan", "deadline_s must be"),
        ("redis://h?ledger_prefix=a{b}", "ledger_prefix must be"),
        ("redis://h?decode_responses=yes", "not to be set"),
        ("redis://h?retry_on_timeout=yes", "not to be set"),
        ("redis://h?colour=blue", "colour"),
        ("redis://h/0?socket_timeout=-1", "socket_timeout must be"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    """An option that cannot be is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/2?ack=aof", "redis://h:1/2"),
        ("valkey://me:secret@h:1/2?ack=replicas=2", "valkey://me:***@h:1/2"),
        ("valkeys://:secret@h", "valkeys://:***@h"),
        ("rediss://me:se:c%40ret@h?ssl_cert_reqs=none", "rediss://me:***@h"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
    ],
)
def test_the_password_is_never_shown(url: str, shown: str) -> None:
    """Whatever the scheme, what errors show has no password in it."""
    options = RedisOptions.from_url(url)
    assert options.shown == shown
    assert "secret" not in str(options.failed(ValueError("x")))
    RedisStore.from_url(url).close()


def test_a_wrong_password_is_said_at_once_and_not_shown(own_server: RedisServer) -> None:
    """It is not tried again until the deadline, and nothing was written."""
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.acl_setuser("me", enabled=True, passwords=["+right"], categories=["+@all"], keys="*")
    url = own_server.url.replace("://", "://me:wrong@") + "?deadline_s=1000"
    store = open_store(url)
    with pytest.raises(StoreError, match=r"me:\*\*\*@.*Nothing was written") as refused:
        store.apply("s", ONE)
    assert "wrong@" not in str(refused.value)
    right = open_store(own_server.url.replace("://", "://me:right@"))
    assert right.apply("s", ONE).reply.seq == 1
    right.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    """The same by `unix://`."""
    path = tempfile.mktemp(prefix="tbc-")  # short: a socket's name has a limit
    server = RedisServer(tmp_path / "redis", {"unixsocket": path}).start()
    store = open_store(f"unix://{path}?db=1")
    assert store.apply("s", ONE).reply.seq == 1
    store.close()
    server.kill()


def test_without_redis_py_it_is_said_what_to_install() -> None:
    """The error names the extra."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from tbcontracts import open_store\n"
        "try: open_store('redis://localhost')\n"
        "except ImportError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "tbcontracts[redis]"' in said.stdout


# --- what a server must be ------------------------------------------------------------------------


def test_a_server_that_evicts_is_refused(own_server: RedisServer) -> None:
    """Its setting is named, also where CONFIG is forbidden; once it is right, the store works."""
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.acl_setuser(
            "me", enabled=True, nopass=True, keys="*", categories=["+@all"], commands=["-config"]
        )
        for url in (own_server.url, own_server.url.replace("://", "://me:any@")):
            store = open_store(url)
            with pytest.raises(StoreError, match=r"maxmemory-policy allkeys-lru.*noeviction"):
                store.apply("s", ONE)
            with pytest.raises(StoreError, match="allkeys-lru"):
                store.read("s")
        assert client.keys() == []
        client.config_set("maxmemory-policy", "noeviction")
        assert store.apply("s", ONE).reply.seq == 1
        store.close()


def test_a_server_that_does_not_tell_is_refused(own_server: RedisServer) -> None:
    """A user who may not call INFO is told that it is needed."""
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.acl_setuser(
            "me", enabled=True, nopass=True, keys="*", categories=["+@all"], commands=["-info"]
        )
    store = open_store(own_server.url.replace("://", "://me:any@"))
    with pytest.raises(StoreError, match="may call INFO"):
        store.apply("s", ONE)


def test_a_full_server_writes_nothing(own_server: RedisServer) -> None:
    """A script that runs out of memory does so before its first write."""
    store = RedisStore.from_url(own_server.url)
    store.apply("s", ONE)
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.config_set("maxmemory", 1)
        before = read(store)
        with pytest.raises(StoreError, match="Nothing was written"):
            store.apply("s", Charge("a", 1))
        assert read(store) == before
        client.config_set("maxmemory", 0)
    assert store.apply("s", Charge("a", 1)).reply.seq == 2
    store.close()


def test_a_replica_takes_no_commands(own_server: RedisServer) -> None:
    """The store asks again, as it is after a failover, until the deadline."""
    store = RedisStore.from_url(f"{own_server.url}?deadline_s=0.05")
    store.apply("s", ONE)
    with closing(redis.Redis.from_url(own_server.url)) as client:
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreError, match="Nothing was written") as refused:
            store.apply("s", Charge("a", 1))
        assert not isinstance(refused.value, OutcomeUnknownError)
        client.replicaof("no", "one")
    assert store.apply("s", Charge("a", 1)).reply.seq == 2
    store.close()


def test_ack_aof_before_7_2_needs_every_write_on_disk_before_its_answer(
    own_server: RedisServer,
) -> None:
    """No append-only file, or one that is synced later, is refused; the setting is named."""
    url = f"{own_server.url}?ack=aof"
    with closing(redis.Redis.from_url(own_server.url)) as client:
        with pytest.raises(StoreError, match="appendonly is off"):
            open_store(url).apply("s", ONE)
        client.config_set("appendonly", "yes")
        with pytest.raises(StoreError, match="appendfsync everysec"):
            open_store(url).apply("s", ONE)
        client.config_set("appendfsync", "always")
        store = open_store(url)
        assert store.apply("s", ONE).reply.seq == 1
        store.close()


INFO_7_2 = [b"redis_version:7.2.4\r\n", b"maxmemory_policy:noeviction\r\n", b"aof_enabled:1\r\n"]


def test_ack_aof_from_7_2_on_waits_for_the_disk() -> None:
    """Then the server says itself what is on its disk; no setting has to be readable."""
    options = RedisOptions.from_url("valkey://h?ack=aof&socket_timeout=3")
    refused = redis.exceptions.NoPermissionError("no")
    assert examine(options, [*INFO_7_2, refused]) == [("WAITAOF", 1, 0, 1500)]


def test_ack_replicas_counts_them(own_server: RedisServer, tmp_path: Path) -> None:
    """Too few is an outcome that nobody can be sure of; a refusal need not be safe anywhere."""
    url = f"{own_server.url}?ack=replicas=1&deadline_s=0.01&socket_timeout=1"
    alone = RedisStore.from_url(url)
    with pytest.raises(OutcomeUnknownError, match="not as safe as ack asks for"):
        alone.apply("s", ONE)
    with pytest.raises(OutcomeUnknownError) as unknown:
        alone.apply("s", Reserve("a", 600, "h"))
    assert isinstance(alone.resolve("s", unknown.value.key), Granted)
    assert isinstance(alone.apply("s", Reserve("a", 600, "h2")).reply, Denied)
    assert read(alone).accounts[0].held == 600
    alone.close()
    replica = RedisServer(tmp_path / "replica").start()
    patient = f"{own_server.url}?ack=replicas=1&deadline_s=60"
    with closing(redis.Redis.from_url(replica.url)) as there:
        there.replicaof("127.0.0.1", str(own_server.port))
    followed = RedisStore.from_url(patient)
    assert isinstance(followed.apply("s", Settle("h", "a", 500)).reply, Posted)
    assert asyncio.run(charge_and_leave(followed)).seq == 5
    with closing(redis.Redis.from_url(replica.url)) as there:
        assert there.xinfo_stream("tb:{s}:log")["last-generated-id"] == b"5-0"
    followed.close()
    replica.kill()


async def charge_and_leave(store: RedisStore) -> Posted:
    """Charge one token, awaited."""
    reply = (await store.aapply("s", Charge("a", 1))).reply
    await store.aclose()
    assert isinstance(reply, Posted)
    return reply


# --- scripts and keys -----------------------------------------------------------------------------


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


# --- donors, forgetting, the journal --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_many_donors_are_asked_in_order_page_by_page(
    seed: int, store: RedisStore, clock: ManualClock
) -> None:
    """A hundred agents with ties, and holds that end in the middle of the search for donors."""
    chance, reference = random.Random(seed), Reference()
    names = [f"agent-{chance.randrange(10**6)}-é" for _ in range(100)]
    opening = Open(
        tuple(
            BudgetContract(name, chance.choice((1, 1, 1, 2)), chance.choice((3, 5, 5)), 0)
            for name in names
        )
    )
    commands: list[Command] = [opening]
    for number in range(120):
        name = chance.choice(names)
        commands.append(
            chance.choice(
                (
                    Reserve(name, chance.choice((1, 40, 90, 300)), f"h{number}", 10.0),
                    Reserve(name, chance.choice((2, 5)), f"h{number}", chance.choice((5.0, 20.0))),
                    Charge(name, chance.choice((1, 1, 30))),
                    TopUp(name, 5),
                )
            )
        )
    most = 0
    for command in commands:
        clock.advance(chance.choice((0, 4, 11)))

        reply = store.apply("s", command).reply
        expected = reference.step(command, clock())
        assert difference(reply, expected, read(store), reference) is None, command
        if isinstance(reply, (Granted, Posted)):
            most = max(most, len(reply.moves))
    assert most > 16, "more than a page was needed"


def test_at_most_64_donors_are_asked(store: RedisStore) -> None:
    """Then the refusal says so; what 64 can give is given, by surplus and then by name."""
    donors = [BudgetContract(f"d{number:02}", 1, 1 + number % 2, 0) for number in range(70)]
    store.apply("s", Open((BudgetContract("a", 2, 0), *donors)))
    refused = store.apply("s", Reserve("a", 105, "h")).reply
    assert isinstance(refused, Denied)
    assert (refused.code, refused.available) == ("fragmented", 35 * 2 + 29)
    granted = store.apply("s", Reserve("a", 99, "h")).reply
    assert isinstance(granted, Granted)
    odd = [f"d{number:02}" for number in range(1, 70, 2)]
    even = [f"d{number:02}" for number in range(0, 58, 2)]
    assert [move.donor for move in granted.moves] == odd + even


def test_what_is_due_is_forgotten_a_little_at_a_time(
    store: RedisStore, client: redis.Redis, clock: ManualClock
) -> None:
    """Ended holds and keys for a day, refusals for 10 minutes; at most 16 with each command."""
    _, _, hold, _, _, key, due, _ = store._options.keys("s")
    store.apply("s", ONE)

    def kept() -> tuple[int, int]:
        return client.hlen(hold), client.hlen(key)

    for number in range(20):
        store.apply("s", Reserve("a", 1, f"h{number}", key=f"k{number}"))
        store.apply("s", Settle(f"h{number}", "a", 1))
    store.apply("s", Reserve("a", 10_000, "no", key="no"))
    store.apply("s", Reserve("a", 1, "open"))
    assert kept() == (21, 22), "the opening has a key that was made for it"
    clock.advance(601)
    store.apply("s", Charge("a", 0, key="later"))
    assert kept() == (21, 21)
    assert store.resolve("s", "no") is None
    clock.advance(86_400 - 601)
    assert store.resolve("s", "k0") is None
    assert isinstance(store.apply("s", Settle("h0", "a", 1)).reply, Posted), "the first answer"
    holds, remembered = kept()
    for number in range(4):
        store.apply("s", Charge("a", 0, key=f"now {number}"))
        assert holds + remembered - sum(kept()) <= 16
        holds, remembered = kept()
    assert kept() == (1, 5), "what is open, and what was used since"
    assert client.zcard(due) == 5


def test_a_hold_is_not_forgotten_with_a_refusal_that_had_its_id(
    store: RedisStore, clock: ManualClock
) -> None:
    """What a refusal left under an id goes after a minute; the hold that was granted then stays."""
    store.apply("s", ONE)
    assert isinstance(store.apply("s", Reserve("a", 1_001, "h")).reply, Denied)
    assert isinstance(store.apply("s", Reserve("a", 1_000, "h", ttl_s=900.0)).reply, Granted)
    clock.advance(601)
    store.apply("s", Charge("a", 0))
    posted = store.apply("s", Settle("h", "a", 1_000)).reply
    assert isinstance(posted, Posted)
    assert (posted.late, read(store).accounts[0].held) == (False, 0)


def test_a_journal_can_have_an_end(redis_server: RedisServer, prefix: str) -> None:
    """With `journal_max` the oldest entries go, about; the rest has no gaps, in many pages."""
    url = f"{redis_server.url}?ledger_prefix={prefix}&journal_max=1500"
    store = RedisStore.from_url(url)
    store.apply("s", ONE)
    for _ in range(2_200):
        store.apply("s", Charge("a", 0))
    entries = store.journal("s")
    assert 1_500 <= len(entries) < 1_700
    assert [entry.seq for entry in entries] == list(range(2_202 - len(entries), 2_202))
    assert store.journal("s", 2_199) == entries[-2:]
    store.close()


# --- books that went backwards --------------------------------------------------------------------


def go_back(client: redis.Redis, store: RedisStore, kept: dict[str, bytes]) -> None:
    """Put back what a server held before, as a failover to a late replica does."""
    for key in store._options.keys("s"):
        client.delete(key)
        if key in kept:
            client.restore(key, 0, kept[key])


def keep(client: redis.Redis, store: RedisStore) -> dict[str, bytes]:
    """Return what a server holds."""
    return {key: dump for key in store._options.keys("s") if (dump := client.dump(key)) is not None}


@pytest.mark.parametrize("awaited", [False, True])
def test_books_that_went_backwards_grant_no_holds(
    awaited: bool, store: RedisStore, client: redis.Redis, redis_server: RedisServer, prefix: str
) -> None:
    """What was used is still posted; after somebody accepted the books, they go on."""

    def apply(command: Command) -> object:
        async def carry_out() -> object:
            try:
                return (await store.aapply("s", command)).reply
            finally:
                await store.aclose()

        return asyncio.run(carry_out()) if awaited else store.apply("s", command).reply

    apply(ONE)
    apply(Reserve("a", 100, "known"))
    kept = keep(client, store)
    apply(Reserve("a", 200, "lost"))
    apply(Settle("known", "a", 50))
    go_back(client, store, kept)
    before = read(store)
    with pytest.raises(LedgerRegressedError, match="had 4 entries before and have 2 now") as found:
        apply(Reserve("a", 1, "new"))
    assert found.value.scope == "s"
    assert read(store) == before, "nothing was granted"
    for command in (Reserve("a", 1, "new"), TopUp("a", 5), Finish("a")):
        with pytest.raises(LedgerRegressedError):
            apply(command)
    for settle in (Settle("known", "a", 50), Settle("lost", "a", 150)):
        assert isinstance(apply(settle), Posted)
    assert read(store).accounts[0].consumed == 200
    with pytest.raises(LedgerRegressedError):
        apply(Reserve("a", 1, "new"))
    other = RedisStore.from_url(f"{redis_server.url}?ledger_prefix={prefix}")
    assert isinstance(other.apply("s", Reserve("a", 1, "other")).reply, Granted), "it saw no more"
    other.close()
    store.accept("s")
    assert isinstance(apply(Reserve("a", 1, "new")), Granted)


def test_emptied_books_are_noticed_by_what_comes_first(
    store: RedisStore, client: redis.Redis
) -> None:
    """Even if it is usage of an agent that is not there any more, and nobody else noticed."""
    store.apply("s", ONE)
    store.apply("s", Charge("a", 1))
    go_back(client, store, {})
    with pytest.raises(LedgerRegressedError, match="others stand there"):
        store.apply("s", Charge("a", 1))
    with pytest.raises(LedgerRegressedError):
        store.apply("s", ONE)
    assert store.read("s") is None
    store.accept("s")
    assert store.apply("s", ONE).reply.seq == 1


# --- MessagePack ----------------------------------------------------------------------------------


def test_what_lua_packs_is_read(client: redis.Redis) -> None:
    """Every form that the scripts may write, at the edges where forms change."""
    numbers = [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**40, 2**53 - 1]
    script = """
    local numbers, texts, list = {}, {}, {}
    for _, number in ipairs(ARGV) do
      numbers[#numbers + 1] = tonumber(number)
      numbers[#numbers + 1] = -tonumber(number)
    end
    for _, size in ipairs({0, 31, 32, 255, 256, 70000}) do
      texts[#texts + 1] = string.rep('é', size)
    end
    for at = 1, 70000 do list[at] = at end
    return cmsgpack.pack({numbers, texts, list, {}, true, false, 0.1, 0.5, 1e300, {{}, {1}}})
    """
    packed = client.eval(script, 0, *map(str, numbers))
    assert unpack(packed) == [
        [signed for number in numbers for signed in (number, -number)],
        ["é" * size for size in (0, 31, 32, 255, 256, 70_000)],
        list(range(1, 70_001)),
        [],
        True,
        False,
        0.1,
        0.5,
        1e300,
        [[], [1]],
    ]
    assert unpack(b"\xc0") is None
    with pytest.raises(ValueError, match="unknown"):
        unpack(b"\xc1")
