"""Books in Redis that went backwards: noticed, and no holds are granted on them."""

from __future__ import annotations

import asyncio

import pytest
import redis
from tests.core.stores.redis_store.conftest import ONE, read
from tests.core.stores.servers import RedisServer

from tbcontracts.commands import Charge, Command, Finish, Granted, Posted, Reserve, Settle, TopUp
from tbcontracts.errors import LedgerRegressedError
from tbcontracts.stores.redis import RedisStore


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
