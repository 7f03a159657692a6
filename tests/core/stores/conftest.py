"""Real servers for the stores: started on free ports, with their data in temporary folders."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.core.stores.servers import REDIS, RedisServer, free_port

_POSTGRES_BINS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def missing(what: str, install: str) -> None:
    """Skip, so that it shows, where a server is not installed; in CI it has to be."""
    said = f"{what} is not installed (Debian: apt-get install {install})"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


_ledgers = count()


def ledger_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet; its server is started if need be."""
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/budget.db?synchronous=off"
    if kind == "redis":
        redis = request.getfixturevalue("redis_server")
        # Long enough for whole histories: the reference never forgets a hold.
        return f"{redis.url}?ledger_prefix=ledger-{next(_ledgers)}&keep_holds_s=1e9"
    server: str = request.getfixturevalue("postgres_server")
    return f"{server}?ledger_schema=ledger_{next(_ledgers)}&options=-csynchronous_commit%3Doff"


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet, in each kind of store for processes."""
    return ledger_url(request.param, request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet, in each kind of store."""
    return ledger_url(request.param, request, tmp_path)


def _binary(name: str) -> Path | None:
    """Find a program of PostgreSQL, which Debian keeps off the path."""
    for folder in _POSTGRES_BINS:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    return None if found is None else Path(found)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server, and return the URL of its database.

    It refuses to run as root, so there it runs as Debian's own user for it.
    """
    initdb, server = _binary("initdb"), _binary("postgres")
    if initdb is None or server is None:
        missing("PostgreSQL", "postgresql")
    user = "postgres" if os.geteuid() == 0 else None
    # Not below pytest's folder: that is closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="tbcontracts-postgres-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    port = free_port()
    subprocess.run(
        [str(initdb), "-D", str(folder / "data"), "-A", "trust", "-U", "postgres"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
    )
    arguments = ["-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(server), *arguments], user=user, cwd=folder, stdout=log, stderr=log
        )
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait_for_postgres(url, process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_postgres(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers; it is asked again and again, because it tells nobody."""
    import time

    import psycopg

    for _ in range(600):
        try:
            with psycopg.connect(url) as db:
                version = db.execute("SHOW server_version").fetchone()
                print(f"PostgreSQL {version and version[0]} at {url}")  # noqa: T201 - which it was
                return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    pytest.fail(f"PostgreSQL did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis server that keeps nothing on disk."""
    if REDIS is None:
        missing("Redis", "redis-server")
    assert REDIS is not None
    version = subprocess.run([REDIS, "--version"], capture_output=True, check=True, text=True)
    folder = Path(tempfile.mkdtemp(prefix="tbcontracts-redis-"))
    server = RedisServer(folder).start()
    print(f"{version.stdout.strip()} ({REDIS}) at {server.url}")  # noqa: T201 - which it was
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
