"""The outbox: a file in which a process notes what was used, before the store is told.

Each line is one JSON value: a command that is on its way, or the number of one that the store has
acknowledged. The first kind is on the disk before anything is sent, so a process that dies between
a provider's answer and the store's can finish after its restart. The second kind is not waited for:
losing it only means that a command is sent again, which the books recognise. Numbers, names and
notes are all that a line holds.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from tbcontracts.errors import ConfigurationError
from tbcontracts.kept import Kept
from tbcontracts.stores import codec

VERSION = 1
_LINES_MOST = 10_000
_log = logging.getLogger("tbcontracts")
_outboxes: weakref.WeakSet[Outbox] = weakref.WeakSet()


class Outbox:
    """The outbox of one process.

    Args:
        path: Its file; made where there is none. Beside it lies one ending in `-lock`.

    Attributes:
        left: What an earlier process noted and the store did not acknowledge, oldest first.

    Raises:
        ConfigurationError: The file cannot be used, is in use, or is no outbox.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, (str, os.PathLike)):
            msg = f"outbox must be the path of a file, not {type(path).__name__}."
            raise ConfigurationError(msg, remedy='What helps: outbox="outbox.jsonl".')
        self.path = Path(path).absolute()
        # A finalizer may come back here on the same thread, so both may be taken twice.
        self._writing = threading.RLock()
        self._syncing = threading.RLock()
        self._meanwhile: list[bytes] | None = None  # what comes in while the file is rewritten
        self._files: dict[str, IO[bytes]] = {}
        # An outbox that nobody refers to any more is let go; at exit the kernel does that.
        weakref.finalize(self, _close, self._files).atexit = False
        try:
            with ExitStack() as failed:
                failed.callback(_close, self._files)
                self._files["lock"] = _open(Path(f"{self.path}-lock"))
                _lock(self._files["lock"], self.path)
                self._files["lines"] = _open(self.path)
                self.left = self._read(self._here())
                failed.pop_all()
        except OSError as error:
            msg = f"The outbox {self.path} cannot be used: {error.strerror or error}."
            helps = "What helps: a file in a folder that this process may write to."
            raise ConfigurationError(msg, remedy=helps) from None
        self._noted = {kept.number: kept for kept in self.left}
        self._size = self._synced = self.path.stat().st_size
        _outboxes.add(self)

    @property
    def next_number(self) -> int:
        """A number that no line in the file has."""
        return self._last_number + 1

    def note(self, kept: Kept) -> None:
        """Note a command; it is on the disk when this returns.

        Raises:
            OSError: It could not be written.
        """
        line = _line(kept._asdict())
        with self._writing:
            self._write(line)
            self._noted[kept.number] = kept
            end = self._size
        with self._syncing:
            if self._lines > max(_LINES_MOST, 4 * len(self._noted)):
                self._rewrite()
            elif self._synced < end and self._meanwhile is None:
                reached = self._size  # what others wrote meanwhile is synced along with it
                os.fsync(self._here().fileno())
                self._synced = reached

    def done(self, number: int) -> None:
        """Note that the store has a command. Never raises: it would only be sent again."""
        try:
            with self._writing:
                if self._noted.pop(number, None) is not None:
                    self._write(_line({"done": number}))
        except OSError:
            _log.exception("The outbox %s could not be written.", self.path)

    def leave(self) -> None:
        """Let go of the file without a word, as a forked child must: it is its parent's."""
        _close(self._files)
        self._noted, self.left = {}, []

    # --- the file ---------------------------------------------------------------------------------

    def _write(self, line: bytes) -> None:
        """Append a line; one that fits only in part is taken back."""
        if self._meanwhile is not None:
            self._meanwhile.append(line)
            return
        file, rest = self._here(), line
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError:
            with suppress(OSError):
                file.truncate(self._size)
            raise
        self._size += len(line)
        self._lines += 1

    def _here(self) -> IO[bytes]:
        """Return the open file."""
        return self._files["lines"]

    def _rewrite(self) -> None:
        """Leave only what is not acknowledged; a crash meanwhile leaves the old file."""
        with self._writing:
            self._meanwhile = []
            try:
                lines = b"".join(
                    [_HEADER, *(_line(kept._asdict()) for kept in self._noted.values())]
                )
                beside = Path(f"{self.path}-new")
                with beside.open("wb") as new:
                    new.write(lines)
                    new.flush()
                    os.fsync(new.fileno())
                self._here().close()  # before the other one takes its place: Windows insists
                try:
                    beside.replace(self.path)
                    self._lines = lines.count(b"\n")
                    self._size = self._synced = len(lines)
                finally:
                    self._files["lines"] = _open(self.path)
                _sync_folder(self.path)
            finally:
                late, self._meanwhile = self._meanwhile, None
                for line in late:
                    self._write(line)

    def _read(self, file: IO[bytes]) -> list[Kept]:
        """Return what was not acknowledged, and cut off a last line that a crash tore.

        Raises:
            ConfigurationError: It is no outbox, newer than this package, or damaged.
        """
        file.seek(0)
        content = file.read()
        lines = content.split(b"\n")[:-1]  # behind the last line's end there is nothing, or a part
        values = [_parsed(line) for line in lines]
        while values and values[-1] is None:
            values.pop()
        good = sum(len(line) + 1 for line in lines[: len(values)])
        if values or not _HEADER.startswith(content):  # else it is new, or its first line torn
            version: Any = values[0].get("outbox") if values and type(values[0]) is dict else None
            self._check(isinstance(version, int), "It is no outbox; it was not touched.")
            is_known = version <= VERSION
            self._check(is_known, f"Its version is {version}; this package knows {VERSION}.")
        noted = self._noted_in(values)
        if good < len(content):
            _log.warning("The last line of the outbox %s was torn, and is left out.", self.path)
            file.truncate(good)
        if not values:
            file.write(_HEADER)
        os.fsync(file.fileno())
        _sync_folder(self.path)
        self._lines = max(1, len(values))
        return noted

    def _noted_in(self, values: list[Any]) -> list[Kept]:
        """Return the commands that no later line says are done."""
        noted: dict[int, Kept] = {}
        self._last_number = 0
        for line, value in enumerate(values[1:], start=2):
            is_one = isinstance(value, dict) and set(value) in ({"done"}, set(Kept._fields))
            self._check(is_one, f"Its line {line} cannot be read.")
            number = value.get("done") or value["number"]
            self._last_number = max(self._last_number, number)
            if "done" in value:
                noted.pop(number, None)
            else:
                noted[number] = Kept(**value)
        return list(noted.values())

    def _check(self, good: bool, why: str) -> None:
        if not good:
            msg = f"The outbox {self.path} cannot be used. {why}"
            raise ConfigurationError(msg, remedy="What helps: another file name.")


def _open(path: Path) -> IO[bytes]:
    return path.open("ab+", buffering=0)


def _close(files: dict[str, IO[bytes]]) -> None:
    """Let go of an outbox's files."""
    for name in list(files):
        files.pop(name).close()


def _line(value: dict[str, Any]) -> bytes:
    return codec.dump(value).encode() + b"\n"


_HEADER = _line({"outbox": VERSION})


def _parsed(line: bytes) -> Any:
    """Return what a line holds; None if that cannot be read."""
    try:
        return codec.load(line.decode())
    except (ValueError, TypeError, KeyError):
        return None


def _sync_folder(path: Path) -> None:
    """Put a file's name on the disk, where the system lets one."""
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep others out; the kernel lets them in again when this process ends.

    Raises:
        ConfigurationError: Somebody else has it.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        msg = f"The outbox {path} is in use by another manager, of this process or another one."
        helps = "What helps: a file of its own for each process."
        raise ConfigurationError(msg, remedy=helps) from None


def _after_fork() -> None:
    """Leave the parent's outboxes to the parent."""
    for outbox in list(_outboxes):
        outbox.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
