"""The SQLite store's file: what is opened, made, and left alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tbcontracts.commands import Charge, Open
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores import open_store, sqlite
from tbcontracts.stores.sqlite import SqliteStore


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/budget.db"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://host/x.db", "names no file"),
        ("sqlite:///x.db?synchronous=maybe", "option that is none"),
        ("sqlite:///x.db?fast=1", "option that is none"),
    ],
)
def test_urls_that_are_none(url: str, said: str) -> None:
    """A URL without a file, or with an unknown option, is refused with what helps."""
    with pytest.raises(ConfigurationError, match=said) as refused:
        open_store(url)
    assert "What helps" in str(refused.value)


def test_reading_never_creates(ledger: str, tmp_path: Path) -> None:
    """`mode=ro` on a ledger that is not there is an error, and leaves nothing behind."""
    with pytest.raises(StoreError, match="There is no ledger"):
        open_store(f"{ledger}?mode=ro")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """And so is a folder that stands where the file should be; no file of our own is spoken of."""
    (tmp_path / "notes.txt").touch()
    for place, said in (
        ("none/budget.db", f"There is no folder '{tmp_path}/none' for 'budget.db'."),
        ("notes.txt/budget.db", f"There is no folder '{tmp_path}/notes.txt' for 'budget.db'."),
        ("", f"{tmp_path} is a folder, and no ledger. What helps: a file in it, {tmp_path}/budget"),
    ):
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{tmp_path}/{place}")
        assert said in str(caught.value)
        assert "-turn" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    """A SQLite file of somebody else, and a file that is none, stay as they were."""
    import sqlite3

    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE account (x)")
    db.close()
    with pytest.raises(StoreError, match="no ledger of tbcontracts"):
        open_store(f"sqlite:///{foreign}")
    assert list(tmp_path.iterdir()) == [foreign]
    text = tmp_path / "text.db"
    text.write_text("not a database, but a longer text than a header of one")
    with pytest.raises(StoreError, match="did not answer"):
        open_store(f"sqlite:///{text}")
    assert text.read_text().startswith("not a database")


def test_what_sqlite_says_is_told_in_whole_sentences(tmp_path: Path) -> None:
    """It may end with a dot of its own."""
    store = open_store(f"sqlite:///{tmp_path}/budget.db")
    assert isinstance(store, SqliteStore)
    told = store._failure(sqlite3.ProgrammingError("Cannot operate on a closed database."))
    assert "a closed database. Nothing was written. What helps" in str(told)


def test_a_transaction_that_failed_leaves_nothing_behind(
    ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the file nor in what this process keeps of it."""
    store = open_store(ledger)
    store.apply("s", Open((BudgetContract("a", max_tokens=100),)))

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_write", fails)
        with pytest.raises(StoreError, match="disk I/O error"):
            store.apply("s", Charge("a", 40))
        with pytest.raises(StoreError, match="disk I/O error"):
            store.apply("new", Charge("a", 40, track=True))
    posted = store.apply("s", Charge("a", 7))
    assert [(entry.seq, entry.consumed) for entry in posted.entries] == [(2, 7)]
    statement = store.read("s")
    assert statement is not None
    assert statement.accounts[0].consumed == 7
    assert store.read("new") is None
    store.close()
