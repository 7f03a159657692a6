"""A ledger's SQLite file: opened, made and brought up to date, with turns for those who write."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tbcontracts.checks import nearest, without_folder
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores.base import About
from tbcontracts.stores.sql import days_in
from tbcontracts.stores.sqlite_looking import WrittenMeanwhileError, looking
from tbcontracts.stores.urls import masked

APPLICATION_ID = 0x54424331  # "TBC1": tells a ledger from any other SQLite file
SCHEMA_VERSION = 1
_OLDEST_SQLITE = (3, 37, 0)  # tables that keep to their types (STRICT)
_BUSY_S = 30.0
_SYNCHRONOUS = ("full", "normal", "off")


class SqliteOptions(NamedTuple):
    """A ledger's file, and how it is opened."""

    path: Path
    synchronous: str = "full"
    """"full" loses nothing that was acknowledged, not even in a power cut; "normal" may lose the
    last moments in one, never in a crash of the process; "off" is for tests."""
    read_only: bool = False
    """For reports: never creates or changes the file."""
    keep_days: float | None = None
    """For how long journal entries and ended holds are kept; None is for ever."""

    @classmethod
    def from_url(cls, url: str, *, read_only: bool = False) -> SqliteOptions:
        """Read a URL: `sqlite:///relative.db`, `sqlite:////absolute.db`, with options behind "?".

        Args:
            url: The options are `synchronous=full|normal|off`, `mode=ro|rw` and `keep_days=30`.
            read_only: As `mode=ro`, whatever the URL says.

        Raises:
            ConfigurationError: It names no file, or an option that is none.
        """
        parts = urlsplit(url)
        path = unquote(parts.path[1:])
        if parts.netloc or path in ("", ":memory:"):
            msg = f"The URL {masked(url)!r} names no file on this host."
            raise ConfigurationError(msg, remedy='What helps: "sqlite:///budget.db".')
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        synchronous = options.pop("synchronous", "full").lower()
        mode = options.pop("mode", "rw").lower()
        keep_days = days_in(options.pop("keep_days", None))
        if options or synchronous not in _SYNCHRONOUS or mode not in ("ro", "rw"):
            msg = f"The URL {masked(url)!r} has an option that is none."
            helps = "What helps: synchronous=full|normal|off, mode=ro|rw, keep_days=30."
            raise ConfigurationError(msg, remedy=helps)
        return cls(Path(path).absolute(), synchronous, read_only or mode == "ro", keep_days)


class Ledger:
    """The connections of one process to a ledger's file.

    Raises:
        StoreError: The file is no ledger, is newer than this package, or cannot be shared.
        sqlite3.Error: The file cannot be used.
    """

    def __init__(self, options: SqliteOptions) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            msg = f"This Python has SQLite {sqlite3.sqlite_version}; a ledger needs 3.37 or later."
            raise StoreError(msg, remedy="What helps: a newer Python, or another store.")
        self._options = options
        self._reading = threading.RLock()
        self._open = ExitStack()
        self._writer: sqlite3.Connection | None = None
        self._turn: IO[bytes] | None = None
        self._same: _Identity | None = None
        with ExitStack() as opened:
            self._look_before_touching()
            if not options.read_only:
                self._turn = opened.enter_context(_turns_of(options.path))
                self._writer = opened.enter_context(closing(self._connect("rwc")))
                self._share(self._writer)
                with self.writing() as db:
                    _bring_up_to_date(db, options.path)
                self._reader = opened.enter_context(closing(self._connect("ro")))
                with self.reading() as db:  # both files are there from now on
                    _version_of(db, options.path)
                self._same = _identity(options.path)
            self._open = opened.pop_all()
        # A store that nobody refers to any more lets go of its file; at exit the kernel does that.
        weakref.finalize(self, self._open.close).atexit = False

    def _look_before_touching(self) -> None:
        """Refuse a file that is no ledger while it is still as it was."""
        path = self._options.path
        if path.is_file():
            # Whoever writes to it just now has looked, too.
            with suppress(WrittenMeanwhileError), looking(path) as db:
                if not _version_of(db, path) and self._options.read_only:
                    msg = f"There is no ledger in {path} yet: the file is empty."
                    raise StoreError(msg, remedy="What helps: tbc store init, or its first use.")
        elif self._options.read_only:
            raise _missing(path)
        elif path.is_dir():
            msg = f"{path} is a folder, and no ledger."
            raise StoreError(msg, remedy=f"What helps: a file in it, {path / 'budget.db'}.")
        elif missing := without_folder(path):
            helps = "What helps: make it, or another path (sqlite:////var/a.db is an absolute one)."
            raise StoreError(missing, remedy=helps)

    def _see_that_it_is_the_same(self) -> None:
        """Refuse to go on with a file that nobody else will find: what is written there is lost.

        Raises:
            StoreError: It was moved, deleted or replaced.
        """
        if self._same is not None and _identity(self._options.path) != self._same:
            msg = f"The ledger {self._options.path} was moved, deleted or replaced while in use."
            helps = "What helps: put it back, its -wal file too; or open the store again."
            raise StoreError(msg, remedy=helps)

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(self._options.path))}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )

    def _share(self, db: sqlite3.Connection) -> None:
        """Let several processes use the file at once, each commit as safe as the options say."""
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            msg = f"The ledger {self._options.path} cannot be shared (journal mode {mode!r})."
            raise StoreError(msg, remedy="What helps: a file on a local disk.")
        db.execute(f"PRAGMA synchronous = {self._options.synchronous}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write in one transaction: all of it is in the file afterwards, or nothing."""
        db = self._writer
        assert db is not None
        assert self._turn is not None
        with _turn(self._turn):
            self._see_that_it_is_the_same()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a failed commit may have ended the transaction
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in one transaction: all of it belongs to the same moment."""
        if self._options.read_only:
            with looking(self._options.path) as db:
                yield db
            return
        with self._reading:
            self._see_that_it_is_the_same()
            if self._reader.in_transaction:  # a finalizer reads in the middle of a reader
                yield self._reader
                return
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            self._open.close()


def _turns_of(path: Path) -> IO[bytes]:
    """Open the file by which processes take turns; what goes wrong there is said of the ledger."""
    try:
        return Path(f"{path}-turn").open("ab")
    except OSError as error:
        msg = f"The ledger {path} needs a file beside it that cannot be written: {error.strerror}."
        helps = "What helps: the right to write in its folder, or another path."
        raise StoreError(msg, remedy=helps) from error


def _missing(path: Path) -> StoreError:
    """Return the error for a ledger that is not there, with the nearest name that is."""
    msg, helps = f"There is no ledger {path}.", "What helps: the path of a ledger that exists."
    if path.is_dir():
        msg = f"{path} is a folder, and no ledger."
    with suppress(OSError):
        near = nearest(path.name, [other.name for other in path.parent.iterdir()])
        if near is not None and near != path.name:
            helps = f"Did you mean {near}, which is in the same folder?"
    return StoreError(msg, remedy=helps)


def _version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a ledger's schema; 0 for an empty file.

    Raises:
        StoreError: It is no ledger, or newer than this package.
    """
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (application or version or tables):
        msg = f"{path} is a SQLite file, but no ledger of tbcontracts. It was not touched."
        raise StoreError(msg, remedy="What helps: another file name.")
    if version > SCHEMA_VERSION:
        msg = f"The ledger {path} has version {version}; this package knows {SCHEMA_VERSION}."
        raise StoreError(msg, remedy="What helps: a newer tbcontracts.")
    return version


def _bring_up_to_date(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file. The first schema is the only one there is."""
    if _version_of(db, path) == SCHEMA_VERSION:
        return
    schema = files("tbcontracts.stores").joinpath("schema_sqlite.sql").read_text(encoding="utf-8")
    for statement in schema.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def about(db: sqlite3.Connection, path: Path, entries: int) -> About:
    """Return what there is to know of a ledger's file."""
    wal = Path(f"{path}-wal")
    size = sum(file.stat().st_size for file in (path, wal) if file.exists())
    return About(
        kind="SQLite file",
        place=f"sqlite:///{path}",
        software=f"SQLite {sqlite3.sqlite_version}",
        layout=_version_of(db, path),
        layout_known=SCHEMA_VERSION,
        entries=entries,
        size_bytes=size,
    )


_Identity = tuple[tuple[int, int], ...]


def _identity(path: Path) -> _Identity | None:
    """Return what tells a ledger's files from others of the same name; None if one is gone."""
    try:
        found = [os.stat(name) for name in (path, f"{path}-wal")]  # noqa: PTH116 - at every command
    except OSError:
        return None
    return tuple((one.st_dev, one.st_ino) for one in found)


if sys.platform == "win32":
    import msvcrt

    @contextmanager
    def _turn(file: IO[bytes]) -> Iterator[None]:
        """Wait for this process's turn to write."""
        while True:
            with suppress(OSError):  # it gives up after ten seconds
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                break
        try:
            yield
        finally:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    @contextmanager
    def _turn(file: IO[bytes]) -> Iterator[None]:
        """Wait for this process's turn to write; the kernel ends the turn of one that dies."""
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
