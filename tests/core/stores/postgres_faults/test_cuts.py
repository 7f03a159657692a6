"""PostgreSQL that is cut off, restarted or silent: each command once, or a clear error."""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from tests.core.stores.postgres_faults.conftest import (
    OPENING,
    SOAK,
    Connections,
    at,
    audited,
    consumed,
    error_of,
    fresh,
    store_at,
)
from tests.core.stores.postgres_server import PostgresServer
from tests.core.stores.proxy import Cut, Proxy

from tbcontracts.commands import Charge, Command, Finish, Granted, Posted, Reserve, Settle
from tbcontracts.errors import OutcomeUnknownError, StoreError
from tbcontracts.stores import open_store, postgres_access
from tbcontracts.stores.postgres import PostgresStore

SCRIPT: tuple[Command, ...] = (
    Charge("a", 5, key="first"),
    Reserve("a", 60, "h", key="hold"),
    Settle("h", "a", 50),
    Charge("a", 7),  # without a key: nobody may send it twice
    Charge("a", 11, key="last"),
)
CUTS = 10_000 if SOAK else 60


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    """Return a way to the server that can be cut."""
    made = Proxy(postgres.port)
    yield made
    made.close()


# --- cut connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["before", "unanswered", "at once"])
def test_a_cut_at_any_moment_is_not_noticed(
    how: str, proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """Wherever one connection is cut, each command takes effect once and is answered."""
    for request in itertools.count(1):
        scope, store = fresh(), store_at(at(proxy.url, schema))
        proxy.cut(Cut(request, how))
        replies = [store.apply(scope, command).reply for command in (OPENING, *SCRIPT)]
        assert isinstance(replies[2], Granted)
        assert [reply.amount for reply in replies[3:] if isinstance(reply, Posted)] == [50, 7, 11]
        kinds = ["opened", "charged", "held", "settled", "charged", "charged"]
        assert audited(near, scope) == kinds
        assert consumed(near, scope) == 73
        assert store.apply(scope, SCRIPT[0]).entries == ()  # its key is known
        connections.check(store)
        if not proxy.has_cut.is_set():
            break
    assert request > 12  # two to connect, three for new books, two for each command


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("how", ["before", "unanswered", "at once"])
def test_a_server_that_is_gone_is_an_error_that_says_what_is_known(
    how: str, proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """Either nothing was written, or it is not known, and the key tells later."""
    said: set[type[StoreError]] = set()
    for request in itertools.count(1):
        scope, store = fresh(), store_at(at(proxy.url, schema))
        near.apply(scope, OPENING)
        proxy.cut(Cut(request, how), for_good=True)
        error = error_of(partial(store.apply, scope, Charge("a", 5, key="only")))
        connections.check(store)
        if error is None:
            break
        said.add(type(error))
        assert "did not answer" in str(error)
        if isinstance(error, OutcomeUnknownError):
            assert error.key == "only"
            assert how != "before" or consumed(near, scope) == 0
        else:
            assert consumed(near, scope) == 0
        # Asked again with the same key, whatever became of it before.
        near.apply(scope, Charge("a", 5, key="only"))
        assert consumed(near, scope) == 5
    assert said == {StoreError, OutcomeUnknownError}
    assert request >= 6  # two to connect, one for the tables' version, three for the command


def test_many_cut_answers_and_no_double_charge(
    proxy: Proxy, near: PostgresStore, schema: str
) -> None:
    """Answers of one store are cut again and again: each charge is on the books exactly once."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    chance, scope, store = random.Random(seed), fresh(), store_at(at(proxy.url, schema))
    near.apply(scope, OPENING)
    proxy.cut(Cut(0, "before"))
    sent = cuts = 0
    while cuts < CUTS:
        proxy.cut(Cut(chance.randint(1, 4), chance.choice(("unanswered", "at once"))))
        for _ in range(3):
            sent += 1
            store.apply(scope, Charge("a", 1, key=f"c{sent}" if chance.random() < 0.5 else None))
        cuts += proxy.has_cut.is_set()
    assert consumed(near, scope) == sent
    assert audited(near, scope) == ["opened", *["charged"] * sent]
    store.close()


def test_a_server_that_says_nothing_is_given_up(
    proxy: Proxy, near: PostgresStore, schema: str, connections: Connections
) -> None:
    """A network that loses everything ends in an error, not in a wait without end."""
    for request in (1, 3, 5):  # connecting, asking, writing
        scope, store = fresh(), store_at(at(proxy.url, schema, ledger_timeout_s=0.3))
        near.apply(scope, OPENING)
        proxy.cut(Cut(request, "swallowed"))
        with pytest.raises(StoreError, match="did not answer") as caught:
            store.apply(scope, Charge("a", 5, key="only"))
        if not isinstance(caught.value, OutcomeUnknownError):
            assert consumed(near, scope) == 0
        connections.check(store)
        near.apply(scope, Charge("a", 5, key="only"))
        assert consumed(near, scope) == 5


# --- the server itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_the_server_is_restarted(
    how: signal.Signals,
    postgres: PostgresServer,
    near: PostgresStore,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was acknowledged is there; while it is down there are errors, then it goes on."""
    scope = fresh()
    near.apply(scope, OPENING)
    threads = [threading.Thread(target=near.read, args=(scope,)) for _ in range(8)]
    for thread in threads:  # connections that will all be dead
        thread.start()
    for thread in threads:
        thread.join(60)
    near.apply(scope, Charge("a", 5))
    postgres.stop(how)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(postgres_access, "_PAUSES_S", (0.0, 0.0))
            with pytest.raises(StoreError, match="did not answer"):
                near.apply(scope, Charge("a", 7))
            with pytest.raises(StoreError, match="did not answer"):
                near.read(scope)
    finally:
        postgres.start()
    assert consumed(near, scope) == 5
    near.apply(scope, Charge("a", 11))
    assert audited(near, scope) == ["opened", "charged", "charged"]
    assert consumed(near, scope) == 16
    connections.check(near)


def test_a_backend_that_is_ended_between_the_trips(postgres_server: str, schema: str) -> None:
    """The administrator ends the connection while the rules are at work: it is done again."""
    armed: list[bool] = []

    def clock() -> float:
        if armed:
            armed.pop()
            with psycopg.connect(postgres_server, autocommit=True) as db:
                db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE state = 'idle in transaction' AND query LIKE %s",
                    (f"%{schema}%",),
                )
        return 1_000.0

    store = open_store(at(postgres_server, schema), clock=clock)
    store.apply("s", OPENING)
    armed.append(True)
    store.apply("s", Charge("a", 5))
    assert not armed
    assert [entry.kind for entry in store.journal("s")] == ["opened", "charged"]
    store.close()


def test_an_unknown_outcome_without_a_key(postgres_server: str) -> None:
    """A finished agent, a closed scope: there is no key to ask by; the books tell."""
    store: Any = store_at(postgres_server)
    error = store._ledger._unknown(Finish("a"), psycopg.OperationalError("lost"))
    store.close()
    assert error.key == ""
    assert "Whether the command took effect is not known." in str(error)
    assert "tbc show" in str(error)
    assert "resolve" not in str(error)
