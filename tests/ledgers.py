"""Fixtures: real servers for stores, on free ports, with their data in temporary folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest
from tests.core.stores.postgres_server import PostgresServer
from tests.core.stores.servers import REDIS, RedisServer

_ledgers = count()


def missing(what: str, install: str) -> NoReturn:
    """Skip, so that it shows, where a server is not installed; in CI it has to be."""
    said = f"{what} is not installed (Debian: apt-get install {install})"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def ledger_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet; its server is started if need be."""
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/budget.db?synchronous=off"
    name = f"ledger_{next(_ledgers)}_{os.getpid()}"
    if kind == "redis":
        redis = request.getfixturevalue("redis_server")
        # Long enough for whole histories: the reference never forgets a hold.
        return f"{redis.url}?ledger_prefix={name}&keep_holds_s=1e9"
    server: str = request.getfixturevalue("postgres_server")
    return f"{server}?ledger_schema={name}&options=-csynchronous_commit%3Doff"


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet, in each store that processes share."""
    return ledger_url(request.param, request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "redis"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet, in each kind of store."""
    return ledger_url(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a ledger in each shared store that decides in this process."""
    return ledger_url(request.param, request, tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL server."""
    server = PostgresServer.installed()
    if server is None:
        missing("PostgreSQL", "postgresql")
    server.start()
    yield server
    server.stop(signal.SIGINT)
    server.remove()


@pytest.fixture(scope="session")
def postgres_server(postgres: PostgresServer) -> str:
    """Start a PostgreSQL server, and return the URL of its database."""
    return postgres.url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis server that keeps nothing on disk."""
    if REDIS is None:
        missing("Redis", "redis-server")
    version = subprocess.run([REDIS, "--version"], capture_output=True, check=True, text=True)
    folder = Path(tempfile.mkdtemp(prefix="tbcontracts-redis-"))
    server = RedisServer(folder).start()
    print(f"{version.stdout.strip()} ({REDIS}) at {server.url}")  # noqa: T201 - which it was
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
