"""What a Redis server must be: it does not evict, is no replica, and acknowledges as asked."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
import redis
from tests.core.stores.redis_store.conftest import ONE, charge_and_leave, read
from tests.core.stores.servers import RedisServer

from tbcontracts.commands import Charge, Denied, Granted, Posted, Reserve, Settle
from tbcontracts.errors import OutcomeUnknownError, StoreError
from tbcontracts.stores import open_store
from tbcontracts.stores.redis import RedisStore
from tbcontracts.stores.redis_options import RedisOptions
from tbcontracts.stores.redis_server import examine


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
