"""A ledger's SQLite file, looked at: nothing is made beside it, and nothing in it is changed."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

_BUSY_S = 30.0


class WrittenMeanwhileError(Exception):
    """Somebody began to write while the file was read: what was read may be of two moments."""


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Read a file in one transaction: all of it belongs to the same moment.

    While somebody has the file in use, its `-wal` is there, and SQLite reads both. Else SQLite
    would make one, and leave it; so it is told that nobody will write. Whoever opens the file
    meanwhile has to wait for our turn to end; where there are no turns, we see whether it was
    written.

    Raises:
        WrittenMeanwhileError: It was; what was read is not to be used.
    """
    wal = Path(f"{path}-wal")
    if not wal.exists():
        with _turn_to_read(Path(f"{path}-turn")):
            if not wal.exists():
                with _as_it_is(path, wal) as db:
                    yield db
                return
    with closing(_connect(path, "mode=ro")) as db:
        db.execute("BEGIN")
        yield db


@contextmanager
def _as_it_is(path: Path, wal: Path) -> Iterator[sqlite3.Connection]:
    """Read a file that nobody has open."""
    before = _state(path)
    with closing(_connect(path, "mode=ro&immutable=1")) as db:
        try:
            yield db
        except sqlite3.DatabaseError:
            if wal.exists() or _state(path) != before:
                raise WrittenMeanwhileError from None
            raise
    if (wal.exists() and wal.stat().st_size) or _state(path) != before:
        raise WrittenMeanwhileError


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?{how}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written."""
    found = os.stat(path)  # noqa: PTH116 - at every question
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


if sys.platform == "win32":

    @contextmanager
    def _turn_to_read(file: Path) -> Iterator[None]:  # noqa: ARG001 - nothing to wait for
        """Go on: here a turn cannot be had without writing."""
        yield
else:
    import fcntl

    @contextmanager
    def _turn_to_read(file: Path) -> Iterator[None]:
        """Keep those who write waiting for their turn; a copy of a ledger has none."""
        if not file.exists():
            yield
            return
        with file.open("rb") as turn:
            fcntl.flock(turn, fcntl.LOCK_SH)
            yield
