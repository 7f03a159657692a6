"""A PostgreSQL server of our own, started on a free port with its files in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_POSTGRES_BINS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binary(name: str) -> Path | None:
    """Find a program of PostgreSQL, which Debian keeps off the path."""
    for folder in _POSTGRES_BINS:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    return None if found is None else Path(found)


class PostgresServer:
    """A PostgreSQL server of ours, that can be stopped and started again.

    It refuses to run as root, so there it runs as Debian's own user for it.

    Args:
        initdb: The program that makes its files.
        postgres: The program that serves them.
    """

    def __init__(self, initdb: Path, postgres: Path) -> None:
        self._postgres = postgres
        self._user = "postgres" if os.geteuid() == 0 else None
        # Not below pytest's folder: that is closed to other users.
        self._folder = Path(tempfile.mkdtemp(prefix="tbcontracts-postgres-"))
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self.port = _free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        subprocess.run(
            [str(initdb), "-D", str(self._folder / "data"), "-A", "trust", "-U", "postgres"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )

    @classmethod
    def installed(cls) -> PostgresServer | None:
        """Make a server with the programs that are installed; None if there are none."""
        initdb, postgres = _binary("initdb"), _binary("postgres")
        return None if initdb is None or postgres is None else cls(initdb, postgres)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        data = str(self._folder / "data")
        log = self._folder / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(self._postgres), "-D", data, "-p", str(self.port), "-k", str(self._folder)],
                user=self._user,
                cwd=self._folder,
                stdout=out,
                stderr=out,
            )
        _wait_for_postgres(self.url, self._process, log)

    def stop(self, how: signal.Signals) -> None:
        """Stop it.

        Args:
            how: SIGINT ends all connections first; SIGQUIT is as a crash.
        """
        self._process.send_signal(how)
        self._process.wait(60)

    def remove(self) -> None:
        """Delete its files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _wait_for_postgres(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers; it is asked again and again, because it tells nobody."""
    import psycopg  # whoever tests other stores may lack it

    for _ in range(600):
        try:
            with psycopg.connect(url) as db:
                version = db.execute("SHOW server_version").fetchone()
                print(f"PostgreSQL {version and version[0]} at {url}")  # noqa: T201 - which it was
                return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    msg = f"PostgreSQL did not start: {log.read_text()}"
    raise RuntimeError(msg)
