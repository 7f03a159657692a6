"""A PostgreSQL behind a proxy, connections that fail, and books to check afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tbcontracts.commands import Open
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError
from tbcontracts.stores import open_store, postgres_access, postgres_link
from tbcontracts.stores.postgres import PostgresStore
from tbcontracts.testing.audit import Audit

OPENING = Open((BudgetContract("a", max_tokens=10**9, min_reserve=0),))
NUMBERS = itertools.count()
SOAK = bool(os.environ.get("TBC_SOAK"))


def fresh(prefix: str = "s") -> str:
    """Return a name that nobody had."""
    return f"{prefix}{next(NUMBERS)}_{os.getpid()}"


def at(url: str, schema: str, **options: object) -> str:
    """Return the URL of a ledger."""
    joined = "".join(f"&{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}ledger_schema={schema}{joined}"


class Connections:
    """Every connection that was made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        connect = postgres_link.connect

        def noted(*arguments: Any) -> Any:
            db = connect(*arguments)
            self.made.append(db)
            return db

        monkeypatch.setattr(postgres_link, "connect", noted)

    def check(self, store: PostgresStore) -> None:
        """See that each is kept for the next command, or closed."""
        kept = store._ledger._idle
        assert len(kept) == len(set(kept))
        assert [db for db in self.made if not db.closed] == [db for db in self.made if db in kept]
        store.close()
        assert all(db.closed for db in self.made)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Return what notes all connections."""
    return Connections(monkeypatch)


@pytest.fixture
def schema() -> str:
    """Return where a ledger is to be."""
    return fresh("faults")


@pytest.fixture
def near(postgres_server: str, schema: str) -> Iterator[PostgresStore]:
    """Return a store on the ledger by the way that is not cut; its tables are there."""
    store = open_store(at(postgres_server, schema))
    assert isinstance(store, PostgresStore)
    store.apply("made", OPENING)
    yield store
    store.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait between attempts, where all of them will fail."""
    monkeypatch.setattr(postgres_access, "_PAUSES_S", (0.0, 0.0))


def store_at(url: str) -> PostgresStore:
    """Open a store, and nothing else."""
    store = open_store(url)
    assert isinstance(store, PostgresStore)
    return store


def error_of(work: Callable[[], object]) -> StoreError | None:
    """Do something; return the error of the store."""
    try:
        work()
    except StoreError as error:
        return error
    return None


def consumed(store: PostgresStore, scope: str) -> int:
    """Return what the agent has used."""
    statement = store.read(scope)
    return 0 if statement is None or not statement.accounts else statement.accounts[0].consumed


def audited(store: PostgresStore, scope: str) -> list[str]:
    """Check the journal, and return what it tells of."""
    audit, entries = Audit(), store.journal(scope)
    for entry in entries:
        audit.hear(entry)
    statement = store.read(scope)
    assert statement is not None
    audit.compare(statement)
    return [entry.kind for entry in entries]
