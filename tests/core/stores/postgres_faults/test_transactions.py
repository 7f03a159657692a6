"""PostgreSQL that undoes a transaction or holds a lock: done again, or a clear error."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from tests.core.stores.postgres_faults.conftest import (
    OPENING,
    Connections,
    at,
    audited,
    consumed,
    error_of,
    store_at,
)

from tbcontracts.commands import Charge
from tbcontracts.errors import ConfigurationError, OutcomeUnknownError, StoreError
from tbcontracts.stores import open_store
from tbcontracts.stores.postgres import PostgresStore


def trigger(url: str, schema: str, code: str, times: int, *, deferred: bool) -> None:
    """Have the server undo the next transactions that write a scope, with an error of this code."""
    kind = "CONSTRAINT TRIGGER fails AFTER" if deferred else "TRIGGER fails BEFORE"
    when = "DEFERRABLE INITIALLY DEFERRED" if deferred else ""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            f"""
            CREATE SEQUENCE {schema}.failures;
            CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('{schema}.failures') <= {times} THEN
                    RAISE EXCEPTION 'injected' USING ERRCODE = '{code}';
                END IF;
                RETURN NEW;
            END $$;
            CREATE {kind} UPDATE ON {schema}.scope {when}
                FOR EACH ROW EXECUTE FUNCTION {schema}.fail();
            """  # type: ignore[arg-type, unused-ignore]
        )


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_what_the_server_undid_is_done_again(
    code: str,
    deferred: bool,
    near: PostgresStore,
    postgres_server: str,
    schema: str,
    connections: Connections,
) -> None:
    """Serialization failures and deadlocks, in the middle and at the commit."""
    trigger(postgres_server, schema, code, 2, deferred=deferred)
    near.apply("s", OPENING)
    near.apply("s", Charge("a", 5))
    assert audited(near, "s") == ["opened", "charged"]
    connections.check(near)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("code", ["40001", "53100", "42501"])
def test_what_the_server_undoes_for_ever_is_an_error(
    code: str, near: PostgresStore, postgres_server: str, schema: str, connections: Connections
) -> None:
    """Also a full disk and a server that takes no writes: nothing is written, then all is well."""
    near.apply("s", OPENING)
    trigger(postgres_server, schema, code, 2 if code == "40001" else 1, deferred=False)
    with pytest.raises(StoreError, match="injected") as caught:
        near.apply("s", Charge("a", 5))
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert consumed(near, "s") == 0
    near.apply("s", Charge("a", 7))
    assert consumed(near, "s") == 7
    connections.check(near)


# --- who has the lock -----------------------------------------------------------------------------


def test_a_lock_that_is_never_let_go_ends_in_an_error(
    near: PostgresStore, postgres_server: str, schema: str, connections: Connections
) -> None:
    """Within the time of the URL; other scopes go on meanwhile, and this one does afterwards."""
    near.apply("stuck", OPENING)
    near.apply("free", OPENING)
    store = store_at(at(postgres_server, schema, ledger_timeout_s=0.2))
    with psycopg.connect(postgres_server) as db:
        db.execute(f"SELECT 1 FROM {schema}.scope WHERE name = 'stuck' FOR UPDATE")  # type: ignore[arg-type, unused-ignore]
        with pytest.raises(StoreError, match="timeout"):
            store.apply("stuck", Charge("a", 5))
        with pytest.raises(StoreError, match="timeout"):
            asyncio.run(store.aapply("stuck", Charge("a", 5)))
        store.apply("free", Charge("a", 5))
    store.apply("stuck", Charge("a", 7))
    assert (consumed(near, "stuck"), consumed(near, "free")) == (7, 5)
    connections.check(store)


def test_a_process_that_stops_with_the_lock_loses_it(
    near: PostgresStore, postgres_server: str, schema: str
) -> None:
    """The server ends its transaction, others go on, and what it wanted is done once it is back."""
    near.apply("s", OPENING)
    stopped, go_on, armed = threading.Event(), threading.Event(), threading.Event()

    def clock() -> float:
        if armed.is_set() and not stopped.is_set():
            stopped.set()
            assert go_on.wait(60)
        return 1_000.0

    store = open_store(at(postgres_server, schema, ledger_timeout_s=0.2), clock=clock)
    store.apply("s", Charge("a", 1))
    armed.set()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(store.apply, "s", Charge("a", 5, key="slow"))
        assert stopped.wait(60)
        near.apply("s", Charge("a", 7))  # waits until the server has lost its patience
        go_on.set()
        if error_of(lambda: slow.result(60)) is not None:  # its own time was over
            store.apply("s", Charge("a", 5, key="slow"))
    assert consumed(near, "s") == 13
    assert audited(near, "s") == ["opened", "charged", "charged", "charged"]
    store.close()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_time_that_is_none(text: str) -> None:
    """A URL with a wrong time is refused when it is read."""
    with pytest.raises(ConfigurationError, match="ledger_timeout_s must be seconds"):
        open_store(f"postgresql://localhost/x?ledger_timeout_s={text}")
