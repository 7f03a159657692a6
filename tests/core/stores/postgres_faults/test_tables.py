"""Making the tables in PostgreSQL: many at once, and a role that may not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from tests.core.stores.postgres_faults.conftest import (
    OPENING,
    at,
    audited,
    consumed,
    fresh,
    store_at,
)

from tbcontracts.commands import Charge
from tbcontracts.errors import StoreError
from tbcontracts.stores import open_store


def test_many_make_the_tables_at_once(postgres_server: str, schema: str) -> None:
    """The first one makes them, the others wait for it and find them."""
    start = threading.Barrier(8)

    def begin(_: int) -> None:
        with closing(open_store(at(postgres_server, schema))) as store:
            start.wait(60)
            store.apply("s", OPENING)
            store.apply("s", Charge("a", 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    with closing(store_at(at(postgres_server, schema))) as store:
        assert consumed(store, "s") == 8
        assert audited(store, "s") == ["opened", *["charged"] * 8]


def as_role(postgres_server: str, role: str) -> str:
    """Make a role that may do nothing, and return the database's URL for it."""
    with psycopg.connect(postgres_server, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")  # type: ignore[arg-type, unused-ignore]
    return postgres_server.replace("//postgres@", f"//{role}@")


def test_a_role_that_may_not_make_the_tables(postgres_server: str, schema: str) -> None:
    """It is told so; once somebody has made them, rights to the tables are enough."""
    role = fresh("role")
    store = store_at(at(as_role(postgres_server, role), schema))
    with pytest.raises(StoreError, match="may use or make") as caught:
        store.apply("s", OPENING)
    assert "a role that may create the schema, once" in str(caught.value)
    with closing(store_at(at(postgres_server, schema))) as owner:
        owner.apply("s", OPENING)
        with pytest.raises(StoreError, match="may use or make"):
            store.apply("s", Charge("a", 5))
        with psycopg.connect(postgres_server, autocommit=True) as db:
            db.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")  # type: ignore[arg-type, unused-ignore]
            rights = "SELECT, INSERT, UPDATE, DELETE"
            db.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}")  # type: ignore[arg-type, unused-ignore]
        store.apply("s", Charge("a", 5))
        store.apply("new", OPENING)
        assert consumed(owner, "s") == 5
        assert owner.scopes() == ("new", "s")
    store.close()
