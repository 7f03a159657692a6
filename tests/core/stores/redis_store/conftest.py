"""A Redis store on a new ledger, a client to look behind it, and a server to misuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
import redis
from tests.core.stores.servers import RedisServer

from tbcontracts.books import Statement
from tbcontracts.commands import Charge, Open, Posted
from tbcontracts.contract import BudgetContract
from tbcontracts.stores.redis import RedisStore
from tbcontracts.testing.checking import ManualClock

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


async def charge_and_leave(store: RedisStore) -> Posted:
    """Charge one token, awaited."""
    reply = (await store.aapply("s", Charge("a", 1))).reply
    await store.aclose()
    assert isinstance(reply, Posted)
    return reply
