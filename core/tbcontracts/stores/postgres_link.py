"""Connections to PostgreSQL, plain and awaited: they run plans, and say what went wrong.

A connection that a transaction broke is not used again. A commit whose answer was lost is looked up
by the transaction's number, so that nothing is carried out twice and nothing is taken for lost.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores.postgres_plan import Plan, Query, Rows

try:
    import psycopg
    from psycopg import errors
except ImportError as _missing:
    _msg = (
        "postgresql:// needs psycopg, which is not installed. What helps: "
        'pip install "tbcontracts[postgres]" (from a checkout: pip install ".[postgres]").'
    )
    raise ImportError(_msg, name="psycopg") from _missing

if TYPE_CHECKING:
    Connection = psycopg.Connection[tuple[Any, ...]]
    AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]

T = TypeVar("T")

SCHEMA_VERSION = 1
CONNECT_S = 10
_LOCK = 0x54424331  # for the advisory lock under which the schema is made
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)


class PostgresOptions(NamedTuple):
    """Which database, and where in it."""

    conninfo: str
    schema: str
    shown: str
    """The URL without its password, for errors."""

    @classmethod
    def from_url(cls, url: str) -> PostgresOptions:
        """Read a URL as libpq takes it, with our option `ledger_schema` in it.

        Args:
            url: `postgresql://user@host/database?ledger_schema=tbcontracts`; everything else in it
                is libpq's.

        Raises:
            ConfigurationError: The schema is no plain name.
        """
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
        schema = dict(options).get("ledger_schema", "tbcontracts")
        if not _NAME.fullmatch(schema):
            msg = f"ledger_schema must be a plain lower-case name, not {schema[:60]!r}."
            raise ConfigurationError(msg, remedy="What helps: ?ledger_schema=tbcontracts.")
        query = urlencode([(name, value) for name, value in options if name != "ledger_schema"])
        host = parts.netloc.rpartition("@")
        user = host[0].partition(":")[0]
        masked = f"{user}:***@{host[2]}" if ":" in host[0] else parts.netloc
        shown = urlunsplit((parts.scheme, masked, parts.path, "", ""))
        return cls(urlunsplit(parts._replace(query=query)), schema, shown)

    def missing(self) -> StoreError:
        """Return the error for a database without our tables, where we may not make them."""
        msg = f"{self.shown} has no ledger in schema {self.schema!r}, and it could not be made."
        helps = "What helps: a role that may create the schema, once; later ones need its tables."
        return StoreError(msg, remedy=helps)

    def newer(self, version: int) -> StoreError:
        """Return the error for tables of a later version of this package."""
        msg = f"The ledger in {self.shown} has version {version}, this package {SCHEMA_VERSION}."
        return StoreError(msg, remedy="What helps: a newer tbcontracts.")

    def failed(self, error: BaseException) -> StoreError:
        """Return what callers get when the server did not answer, or refused."""
        said = " ".join(str(error).split())[:200]
        msg = f"The ledger {self.shown} did not answer: {said}"
        return StoreError(msg, remedy="What helps: see that the server can be reached; then again.")


def bring_up(options: PostgresOptions) -> Plan[int]:
    """See that the tables are there; the first to come makes them. Returns their version."""
    there = Query("SELECT to_regclass(%s)", (f"{options.schema}.version",))
    ((found,),) = yield [there]
    if found[0] is None:
        _, _, (found,) = yield [
            Query("BEGIN"),
            Query(f"SELECT pg_advisory_xact_lock({_LOCK})"),
            there,
        ]
        if found[0] is None:  # else another process was faster
            text = files("tbcontracts.stores").joinpath("schema_postgres.sql").read_text("utf-8")
            made = text.replace("{schema}", options.schema).split(";\n")
            version = f"INSERT INTO {options.schema}.version VALUES ({SCHEMA_VERSION})"  # noqa: S608 - a checked name
            yield [*(Query(statement) for statement in made if statement.strip()), Query(version)]
        yield [Query("COMMIT")]
    ((found,),) = yield [Query(f"SELECT version FROM {options.schema}.version")]  # noqa: S608 - a checked name
    return int(found[0])


def may_be_repeated(error: BaseException) -> bool:
    """Return whether the server undid a transaction only because others were at work."""
    return isinstance(error, _AGAIN)


def is_broken(error: BaseException) -> bool:
    """Return whether a connection was lost, so that nobody knows what became of a commit."""
    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def _check_version(options: PostgresOptions, version: int) -> None:
    """Refuse tables that a later version of this package has made."""
    if version > SCHEMA_VERSION:
        raise options.newer(version)


# --- plain connections ----------------------------------------------------------------------------


def connect(options: PostgresOptions) -> Connection:
    """Connect, and see that the tables are there."""
    db = psycopg.connect(options.conninfo, autocommit=True, connect_timeout=CONNECT_S)
    try:
        _check_version(options, run(db, bring_up(options)))
    except errors.InsufficientPrivilege as error:
        db.close()
        raise options.missing() from error
    except BaseException:
        db.close()
        raise
    return db


def run(db: Connection, plan: Plan[T]) -> T:
    """Run a plan on a connection; a failed one is rolled back."""
    answers: Rows | None = None
    try:
        while True:
            answers = _trip(db, next(plan) if answers is None else plan.send(answers))
    except StopIteration as done:
        return cast("T", done.value)
    except BaseException:
        with suppress(psycopg.Error):  # a lost connection has rolled back already
            db.execute("ROLLBACK")
        raise


def _trip(db: Connection, queries: list[Query]) -> Rows:
    """Send queries together; return the rows of each."""
    with db.pipeline():
        cursors = [db.execute(text, values or None) for text, values in queries]  # type: ignore[arg-type, unused-ignore]
    return [list(one) if one.description is not None else [] for one in cursors]


# --- awaited ones ---------------------------------------------------------------------------------


async def aconnect(options: PostgresOptions) -> AsyncConnection:
    """Connect without blocking the event loop; see `connect`."""
    db = await psycopg.AsyncConnection.connect(
        options.conninfo, autocommit=True, connect_timeout=CONNECT_S
    )
    try:
        _check_version(options, await arun(db, bring_up(options)))
    except errors.InsufficientPrivilege as error:
        await db.close()
        raise options.missing() from error
    except BaseException:
        await db.close()
        raise
    return db


async def arun(db: AsyncConnection, plan: Plan[T]) -> T:
    """Run a plan on a connection; a failed one is rolled back."""
    answers: Rows | None = None
    try:
        while True:
            answers = await _atrip(db, next(plan) if answers is None else plan.send(answers))
    except StopIteration as done:
        return cast("T", done.value)
    except BaseException:
        with suppress(psycopg.Error):  # a lost connection has rolled back already
            await db.execute("ROLLBACK")
        raise


async def _atrip(db: AsyncConnection, queries: list[Query]) -> Rows:
    """Send queries together; return the rows of each."""
    async with db.pipeline():
        cursors = [await db.execute(text, values or None) for text, values in queries]  # type: ignore[arg-type, unused-ignore]
    answers: Rows = []
    for one in cursors:
        answers.append([] if one.description is None else list(await one.fetchall()))
    return answers
