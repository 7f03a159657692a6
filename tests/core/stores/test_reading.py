"""Looking at books: a store that is opened for reading makes nothing and changes nothing."""

from __future__ import annotations

import asyncio
import importlib.metadata
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.core.stores.servers import RedisServer

from tbcontracts import OutcomeUnknownError, StoreError, open_store
from tbcontracts.commands import Charge, Open
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError
from tbcontracts.stores.memory import MemoryStore
from tbcontracts.stores.urls import masked, without_password

OPENING = Open((BudgetContract("a", max_tokens=100),))


def traces(url: str, tmp_path: Path) -> object:
    """Return all that a ledger has left where its URL leads."""
    if url.startswith("sqlite"):
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if url.startswith("postgresql"):
        server, _, query = url.partition("?")
        schema = query.partition("ledger_schema=")[2].partition("&")[0]
        with psycopg.connect(server) as db:
            made = db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchall()
            if not made:
                return []
            return db.execute(f"SELECT * FROM {schema}.scope").fetchall()  # type: ignore[arg-type, unused-ignore]
    import redis

    prefix = url.partition("ledger_prefix=")[2].partition("&")[0]
    with closing(redis.Redis.from_url(url.partition("?")[0])) as there:
        keys = sorted(there.scan_iter(f"{prefix}:*"))
        return {key: there.dump(key) for key in keys}


def test_looking_for_a_ledger_that_is_not_there_makes_none(url: str, tmp_path: Path) -> None:
    """No file, no schema and no key; where it can be told apart, it is said."""
    nothing = traces(url, tmp_path)
    said = []
    try:
        with closing(open_store(url, read_only=True)) as store:
            assert store.scopes() == ()
            assert store.read("default") is None
    except StoreError as error:
        said.append(str(error))
    assert bool(said) is not url.startswith("redis")
    assert all("no ledger" in text and "What helps" in text for text in said)
    assert traces(url, tmp_path) == nothing
    assert not nothing


def test_a_store_that_is_only_read(url: str, tmp_path: Path) -> None:
    """It shows the books as they are, refuses commands, plain and awaited, and changes nothing."""
    with closing(open_store(url)) as writer:
        writer.apply("b", OPENING)
        writer.apply("a", OPENING)
        writer.apply("a", Charge("a", 5))
        wanted = writer.read("a"), writer.journal("a"), writer.scopes()
    before = traces(url, tmp_path)
    with closing(open_store(url, read_only=True)) as store:
        assert (store.read("a"), store.journal("a"), store.scopes()) == wanted
        assert store.read("c") is None
        with pytest.raises(StoreError, match="was opened for reading only"):
            store.apply("a", Charge("a", 5))
        with pytest.raises(StoreError, match="was opened for reading only"):
            asyncio.run(store.aapply("new", Charge("a", 5)))
        about: Any = store
        assert about.about().entries == 3
        assert about.about().layout == about.about().layout_known == 1
        assert about.about().size_bytes > 0
    assert traces(url, tmp_path) == before


def test_books_in_memory_that_are_only_read() -> None:
    """They are empty, and stay so."""
    store = open_store("memory://", read_only=True)
    assert store.scopes() == ()
    assert store.journal("s") == ()
    assert store.resolve("s", "key") is None
    assert asyncio.run(store.aread("s")) is None
    assert store.now() > 0
    assert store.capabilities == MemoryStore.capabilities
    with pytest.raises(StoreError, match="reading only"):
        store.apply("s", OPENING)
    store.close()


def test_the_store_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened by URL and clock alone, as ever, and what is only read takes no command."""
    books = MemoryStore()
    books.apply("s", OPENING)

    class Point:
        name = "theirs"

        def load(self) -> Any:
            return lambda url, clock: books

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()])
    assert open_store("theirs://user:secret@host") is books
    store = open_store("theirs://user:secret@host", read_only=True)
    assert store.read("s") == books.read("s")
    assert store.scopes() == ("s",)
    with pytest.raises(StoreError) as refused:
        store.apply("s", Charge("a", 5))
    assert "theirs://user:***@host was opened for reading only" in str(refused.value)


def test_a_server_that_throws_keys_away_can_be_looked_at(tmp_path: Path) -> None:
    """No hold is granted there; what it still has can be read, and what is wrong is said."""
    server = RedisServer(tmp_path / "redis", {"maxmemory-policy": "allkeys-lru"}).start()
    try:
        with pytest.raises(StoreError, match="allkeys-lru"):
            open_store(server.url).apply("s", OPENING)
        with closing(open_store(server.url, read_only=True)) as store:
            looked: Any = store
            assert store.scopes() == ()
            policy, disk = looked.about().dangers
            assert "maxmemory-policy is allkeys-lru" in policy
            assert "appendonly is off" in disk
            assert looked.about().layout is None
    finally:
        server.kill()


def test_a_prefix_that_is_a_pattern(redis_server: RedisServer) -> None:
    """A prefix such as "t[b]*" lists its own scopes, and not those of a ledger called "tbx"."""
    with (
        closing(open_store(f"{redis_server.url}?ledger_prefix=tbx")) as other,
        closing(open_store(f"{redis_server.url}?ledger_prefix=t[b]*")) as store,
    ):
        other.apply("theirs", OPENING)
        store.apply("ours", OPENING)
        assert store.scopes() == ("ours",)


PASSWORDS = ["geheim", "ge/heim", "ge?heim", "ge#heim", "ge@heim", "ge:heim", "1/2", "p%40ss"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["redis", "postgresql", "theirs"])
def test_a_password_is_never_shown(scheme: str, password: str) -> None:
    """Neither whole nor in part, however wrongly it is written; the rest of the URL is."""
    url = f"{scheme}://user:{password}@127.0.0.1:1/0?ledger_timeout_s=1&deadline_s=0.001"
    if scheme == "redis":
        url = url.replace("ledger_timeout_s=1&", "")
    assert masked(url) == f"{scheme}://user:***@127.0.0.1:1/0"
    with pytest.raises((StoreError, ConfigurationError)) as refused:
        open_store(url, read_only=True).scopes()
    for part in (password, "heim", "p%40ss", "p@ss"):
        assert part not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://host:6379/0?client_name=a@b", "redis://host:6379/0"),
        ("redis://user@[::1]:7/0", "redis://user@[::1]:7/0"),
        ("redis://:secret@[::1]:7/0", "redis://:***@[::1]:7/0"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("postgresql:///books?password=secret", "postgresql:///books"),
        ("postgresql://one:1,two:2/books", "postgresql://one:1,two:2/books"),
        ("sqlite:////home/a@b:c/books.db?mode=ro", "sqlite:////home/a@b:c/books.db"),
        ("budget.db", "budget.db"),
    ],
)
def test_how_urls_are_shown(url: str, shown: str) -> None:
    """Whose it is and where it leads, without its password and its options."""
    assert masked(url) == shown
    assert "secret" not in without_password(f"{url} cannot be used", url)


@pytest.mark.parametrize(("key", "said"), [("k", "manager.resolve('k')"), ("", "tbc show")])
def test_an_unknown_outcome_says_where_to_look(key: str, said: str) -> None:
    """By its key; a command that has none is told by the books alone."""
    error = OutcomeUnknownError(key)
    assert said in error.remedy
    assert ("resolve" in str(error)) is bool(key)
