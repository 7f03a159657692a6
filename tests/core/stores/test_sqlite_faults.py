"""A ledger's file that is full, gone, damaged or not to be written: an error, no halves."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tbcontracts.commands import Charge, Open, Reserve, Settle
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores import open_store, rows, sqlite
from tbcontracts.stores.sqlite import SqliteStore
from tbcontracts.testing.audit import Audit

OPENING = Open((BudgetContract("a", max_tokens=10**9, min_reserve=0),))
DAY_S = 86_400.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a ledger is to be."""
    return tmp_path / "budget.db"


def store_at(file: Path, options: str = "", **settings: Any) -> SqliteStore:
    """Open a ledger."""
    store = open_store(f"sqlite:///{file}{options}", **settings)
    assert isinstance(store, SqliteStore)
    return store


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    """Return a store with one agent, that has used 5."""
    opened = store_at(file)
    opened.apply("s", OPENING)
    opened.apply("s", Charge("a", 5))
    yield opened
    opened.close()


def audited(store: SqliteStore, scope: str = "s") -> int:
    """Check the journal against the books, and return what is consumed."""
    audit, statement = Audit(), store.read(scope)
    for entry in store.journal(scope):
        audit.hear(entry)
    assert statement is not None
    audit.compare(statement)
    return statement.accounts[0].consumed


def test_a_full_disk(store: SqliteStore, file: Path) -> None:
    """The kernel refuses to let the file grow: an error; with room again it goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path(f"{file}-wal").stat().st_size
    contracts = tuple(BudgetContract(f"b{number}", max_tokens=1) for number in range(500))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4_096, hard))
    try:
        for command in (Open(contracts), Open(contracts)):
            with pytest.raises(StoreError, match="did not answer") as caught:
                store.apply("s", command)
        assert "Nothing was written" in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert audited(store) == 5
    store.apply("s", Charge("a", 7))
    assert audited(store) == 12
    assert len(store.journal("s")) == 3


def test_a_file_that_is_deleted_while_in_use(store: SqliteStore, file: Path) -> None:
    """What would be written nowhere is refused; so are readers, until the file is back."""
    aside = file.with_name("aside.db")
    file.rename(aside)
    for ask in (lambda: store.apply("s", Charge("a", 7)), lambda: store.read("s")):
        with pytest.raises(StoreError, match="moved, deleted or replaced"):
            ask()
    aside.rename(file)
    store.apply("s", Charge("a", 7))
    assert audited(store) == 12


@pytest.mark.parametrize("name", ["budget.db", "budget.db-wal"])
def test_a_file_that_is_replaced_while_in_use(store: SqliteStore, file: Path, name: str) -> None:
    """Another file of the same name is not the ledger, nor is another log beside it."""
    path = file.with_name(name)
    shutil.copy(path, path.with_name("copy"))
    path.unlink()
    path.with_name("copy").rename(path)
    with pytest.raises(StoreError, match="moved, deleted or replaced"):
        store.apply("s", Charge("a", 7))


def test_a_damaged_page(file: Path) -> None:
    """It is said, nothing is written, and with the page as it was all is well."""
    store = store_at(file)
    store.apply("s", OPENING)
    store.apply("s", Charge("a", 5))
    store.close()
    whole = file.read_bytes()
    with sqlite3.connect(file) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'account'").fetchone()[0]
        page = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    at = (root - 1) * page
    file.write_bytes(whole[:at] + b"\xff" * page + whole[at + page :])
    store = store_at(file)
    for _ in range(2):
        with pytest.raises(StoreError, match="malformed"):
            store.apply("s", Charge("a", 7))
    store.close()
    file.write_bytes(whole)
    store = store_at(file)
    store.apply("s", Charge("a", 11))
    assert audited(store) == 16
    store.close()


# --- rights ---------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that others may enter; pytest's are closed to them."""
    made = Path(tempfile.mkdtemp(prefix="tbcontracts-"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def as_nobody(work: Callable[[], object]) -> str:
    """Do something as a user without rights; return what came of it, or the error."""
    forked = multiprocessing.get_context("fork")
    answer = forked.SimpleQueue()

    def child() -> None:
        if os.geteuid() == 0:
            os.setuid(65_534)
        try:
            answer.put(repr(work()))
        except StoreError as error:
            answer.put(str(error))

    process = forked.Process(target=child)
    process.start()
    process.join(60)
    return str(answer.get())


def read_only(file: Path) -> object:
    """Read a ledger."""
    store = store_at(file, "?mode=ro")
    statement = store.read("s")
    assert statement is not None
    return statement.accounts[0].consumed


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    """A new ledger there is an error that names the file, and leaves nothing behind."""
    folder.chmod(0o555)
    said = as_nobody(lambda: store_at(folder / "budget.db"))
    assert f"{folder}/budget.db needs a file beside it that cannot be written: Permission" in said
    assert list(folder.iterdir()) == []


def test_reading_without_rights_to_the_folder(folder: Path) -> None:
    """Possible while somebody has the ledger open, and while nobody has; writing is not."""
    file = folder / "budget.db"
    store = store_at(file)
    store.apply("s", OPENING)
    store.apply("s", Charge("a", 5))
    folder.chmod(0o555)
    assert as_nobody(lambda: read_only(file)) == "5"
    said = as_nobody(lambda: store_at(file).apply("s", Charge("a", 7)))
    assert "cannot be written: Permission denied" in said
    folder.chmod(0o755)
    store.close()
    assert not Path(f"{file}-wal").exists()
    folder.chmod(0o555)
    assert as_nobody(lambda: read_only(file)) == "5"
    folder.chmod(0o755)
    assert read_only(file) == 5


def test_reading_leaves_nothing_behind(folder: Path) -> None:
    """Looking at a ledger that nobody has open makes no file beside it, not even for a moment."""
    file = folder / "budget.db"
    store = store_at(file)
    store.apply("s", OPENING)
    store.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    reader = store_at(file, "?mode=ro")
    for look in (lambda: reader.read("s"), reader.scopes, lambda: reader.journal("s")):
        assert look()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert reader.about().entries == 1
    assert reader.about().size_bytes == len(before["budget.db"])


def test_whoever_opens_a_ledger_waits_for_those_who_look(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a ledger that nobody had open is read, nobody gets a turn to write; then they do."""
    file = folder / "budget.db"
    with closing(store_at(file)) as store:
        store.apply("s", OPENING)
    reader, turns = store_at(file, "?mode=ro"), []
    real = rows.statement

    def statement(*found: Any) -> Any:
        with Path(f"{file}-turn").open("ab") as turn:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                turns.append("waits")
        return real(*found)

    monkeypatch.setattr(rows, "statement", statement)
    assert reader.read("s") is not None
    assert turns == ["waits"]
    with closing(store_at(file)) as store:
        store.apply("s", Charge("a", 5))
        assert read_only(file) == 5


def test_a_look_that_somebody_writes_into_is_taken_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no turns to wait for, it is seen that a ledger was written meanwhile."""
    file = folder / "budget.db"
    with closing(store_at(file)) as store:
        store.apply("s", OPENING)
    Path(f"{file}-turn").unlink()
    reader = store_at(file, "?mode=ro")
    writers: list[SqliteStore] = []
    real = rows.statement

    def statement(*found: Any) -> Any:
        if not writers:
            writers.append(store_at(file))
            writers[0].apply("s", Charge("a", 5))
        return real(*found)

    monkeypatch.setattr(rows, "statement", statement)
    read = reader.read("s")
    assert read is not None
    assert read.accounts[0].consumed == 5
    writers[0].close()


def test_a_ledger_that_is_always_written_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is said that no look at it was of one moment."""
    file = folder / "budget.db"
    with closing(store_at(file)) as store:
        store.apply("s", OPENING)
    reader, looks = store_at(file, "?mode=ro"), itertools.count()

    def statement(*_: Any) -> Any:
        os.utime(file, ns=(0, next(looks)))

    monkeypatch.setattr(rows, "statement", statement)
    with pytest.raises(StoreError, match="written while it was read, again and again"):
        reader.read("s")
    assert next(looks) == sqlite.LOOKS_MOST


def test_reading_while_others_write(store: SqliteStore, file: Path) -> None:
    """Each answer is of one moment, and the next one of a later; nothing can be written."""
    reader = store_at(file, "?mode=ro")
    for number in range(20):
        store.apply("s", Charge("a", 1))
        assert audited(reader) == 6 + number
    with pytest.raises(StoreError, match="opened for reading only"):
        reader.apply("s", Charge("a", 1))
    reader.close()


# --- what is kept ---------------------------------------------------------------------------------


def test_books_that_are_no_longer_kept(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More scopes than are kept in memory: those that come back are read again."""
    monkeypatch.setattr(sqlite, "SCOPES_KEPT", 3)
    scopes = [f"scope {number}" for number in range(8)]
    for scope in scopes:
        store.apply(scope, OPENING)
    for number in range(3):
        for scope in scopes:
            store.apply(scope, Reserve("a", 9, f"{number}"))
        for scope in scopes:
            store.apply(scope, Settle(f"{number}", "a", 1))
    assert len(store._kept) == 3
    assert {audited(store, scope) for scope in scopes} == {3}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def test_old_entries_and_holds_go_after_their_days(shared_url: str) -> None:
    """What is younger stays, open holds too; the books themselves lose nothing."""
    clock = Clock()
    store: Any = open_store(f"{shared_url}&keep_days=30", clock=clock)
    store.apply("s", OPENING)
    store.apply("s", Reserve("a", 60, "open", ttl_s=100 * DAY_S))
    store.apply("s", Reserve("a", 60, "ended"))
    store.apply("s", Settle("ended", "a", 50))
    clock.now_s += 29 * DAY_S
    store.apply("s", Reserve("a", 60, "young"))
    store.apply("s", Settle("young", "a", 40))
    clock.now_s += 2 * DAY_S
    before = store.read("s")
    for number in range(64):
        store.apply("s", Charge("a", 1, key=f"{number}"))
    kinds = [entry.kind for entry in store.journal("s")]
    assert kinds == ["held", "settled", *["charged"] * 64]
    assert store.journal("s")[0].seq == 5
    after = store.read("s")
    assert after.accounts[0].consumed == before.accounts[0].consumed + 64 == 154
    store.apply("s", Settle("open", "a", 10))
    assert store.read("s").accounts[0].held == 0
    young = store.apply("s", Settle("young", "a", 40)).entries
    assert young == ()  # known, and posted once
    store.close()


def test_everything_is_kept_by_default(shared_url: str) -> None:
    """No age drops anything from a journal."""
    clock = Clock()
    store = open_store(shared_url, clock=clock)
    store.apply("s", OPENING)
    clock.now_s += 10_000 * DAY_S
    for _ in range(64):
        store.apply("s", Charge("a", 1))
    assert len(store.journal("s")) == 65
    store.close()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf", ""])
def test_days_that_are_none(text: str) -> None:
    """A URL with a wrong number of days is refused when it is read."""
    for url in ("sqlite:///x.db", "postgresql://localhost/x"):
        with pytest.raises(ConfigurationError, match="keep_days must be a number of days"):
            open_store(f"{url}?keep_days={text}")
