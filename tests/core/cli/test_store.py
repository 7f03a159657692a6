"""`tbc store`: made ready with the rights there are, and looked at without a trace."""

from __future__ import annotations

import importlib.metadata
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.core.cli.conftest import Run
from tests.core.stores.servers import RedisServer

from tbcontracts import BudgetManager
from tbcontracts.stores import MemoryStore, open_store


def test_a_store_is_made_ready_and_stays_so(run: Run, url: str) -> None:
    """On every store, again and again; afterwards it can be looked at."""
    for _ in range(2):
        result = run("store", "init", url)
        assert result.code == 0
        assert result.out.startswith("Ready: ")
        assert result.out.endswith(" (version 1).\n")
    assert run("store", "init", url, "--json").json["version"] == 1
    with closing(open_store(url, read_only=True)) as store:
        assert store.scopes() == ()


def test_what_a_store_is(run: Run, books: str) -> None:
    """In words and for programs: what answers there, what it promises, how much is in it."""
    said = dict(line.split(":", 1) for line in run("store", "info", books).out.splitlines() if line)
    assert said["Scopes"].strip() == "1"
    assert said["Entries"].strip() == "17"
    assert said["Written as"].strip() == "version 1; this tbcontracts knows 1"
    assert said["Size"].strip().endswith(("bytes", "KiB"))
    shown = run("store", "info", books, "--json").json
    assert shown["scopes"] == ["acme/run-1"]
    assert (shown["entries"], shown["layout"]) == (17, 1)
    assert shown["software"].split()[0] in ("SQLite", "PostgreSQL", "Redis", "Valkey")
    assert set(shown["capabilities"]) == {"durability", "cross_process", "witness"}


def test_looking_makes_nothing(run: Run, url: str, tmp_path: Path) -> None:
    """A store that is not there is not made by asking what it is."""
    run("store", "info", url)
    assert list(tmp_path.iterdir()) == []
    if url.startswith("postgresql"):
        schema = url.partition("ledger_schema=")[2].partition("&")[0]
        with psycopg.connect(url.partition("?")[0]) as db:
            found = db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
            assert found.fetchall() == []


def test_a_role_without_rights_is_told_so(run: Run, postgres_server: str) -> None:
    """Who may not make the tables needs somebody who may, once."""
    with psycopg.connect(postgres_server, autocommit=True) as db:
        db.execute("CREATE ROLE of_tbc_store LOGIN")
    url = postgres_server.replace("postgres@", "of_tbc_store@", 1)
    result = run("store", "init", f"{url}?ledger_schema=of_tbc_store")
    assert result.code == 2
    assert "a role that may create the schema, once" in result.err
    assert run("store", "init", f"{postgres_server}?ledger_schema=of_tbc_store").code == 0


def test_a_path_is_a_file(run: Run, tmp_path: Path) -> None:
    """A SQLite file may be named by its path alone, whatever letters it has."""
    name = "a b?c#d%20.db"
    assert run("store", "init", name).code == 0
    assert (tmp_path / name).is_file()
    assert run("store", "info", name).code == 0


def test_a_server_that_may_lose_books(run: Run, tmp_path: Path) -> None:
    """It cannot be made ready; looked at, it says what is wrong with it."""
    server = RedisServer(tmp_path / "redis", {"maxmemory-policy": "allkeys-lru"}).start()
    try:
        assert "allkeys-lru" in run("store", "init", server.url).err
        result = run("store", "info", server.url)
        assert result.code == 0
        assert "Take care: maxmemory-policy is allkeys-lru" in result.out
        doctor = run("doctor", "--store", server.url, "--json")
        assert doctor.code == 1
        assert [one["code"] for one in doctor.json["traps"]].count("store") == 2
    finally:
        server.kill()


class Older:
    """A store of another package, from before stores listed their scopes."""

    def __init__(self, books: MemoryStore) -> None:
        self._books = books

    def __getattr__(self, name: str) -> Any:
        if name in ("scopes", "about"):
            raise AttributeError(name)
        return getattr(self._books, name)


def test_a_store_that_does_not_list_its_scopes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Managers use it as ever; people must name the scope that they look at."""
    older = Older(MemoryStore())
    monkeypatch.setattr(older._books, "close", lambda: None)  # else its books end with a command

    class Point:
        name = "older"

        def load(self) -> Any:
            return lambda url, clock: older

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()])
    manager = BudgetManager(store="older://host", scope="s")
    manager.register_agent("a", max_tokens=100)
    manager.record_usage("a", 5)
    assert "Spent 5 of 100 tokens" in run("show", "older://host", "s").out
    result = run("show", "older://host")
    assert result.code == 2
    assert "older://host does not list its scopes. What helps: to name one." in result.err
    assert "has no scope 'x'" in run("show", "older://host", "x").err
    assert run("top-up", "older://host", "s", "--pool", "5").code == 0


def test_a_store_of_another_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of its place; what every store has is said."""
    found: Any = MemoryStore()

    class Point:
        name = "theirs"

        def load(self) -> Any:
            return lambda url, clock: found

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()])
    result = run("store", "info", "theirs://me:geheim@host")
    assert result.code == 0
    assert result.out.splitlines()[0] == "Store:         theirs://me:***@host"
    assert run("store", "init", "theirs://me:geheim@host").out == "Ready: theirs://me:***@host.\n"


def test_places_where_no_store_can_be(run: Run, tmp_path: Path) -> None:
    """What was given is named, and the folder that is not there; nothing is made."""
    for command in (("store", "init"), ("demo", "--store")):
        for given in ("none/budget.db", f"sqlite:///{tmp_path}/none/budget.db"):
            result = run(*command, given)
            assert (result.code, result.out) == (2, "")
            assert f"There is no folder '{tmp_path}/none' for 'budget.db'." in result.err
    missing = run("schema", "-o", "none/schema.json")
    assert (missing.code, missing.out) == (2, "")
    assert f"There is no folder '{tmp_path}/none' for 'schema.json'." in missing.err
    assert "is a directory" in run("schema", "-o", tmp_path).err
    assert list(tmp_path.iterdir()) == []
