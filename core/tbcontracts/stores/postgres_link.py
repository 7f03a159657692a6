"""Connections to PostgreSQL: they run plans within a time, and say what went wrong.

A connection that a transaction broke is not used again. A commit whose answer was lost is looked up
by the transaction's number, so that nothing is carried out twice and nothing is taken for lost.
"""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tbcontracts.checks import as_sentence
from tbcontracts.errors import ConfigurationError, StoreError
from tbcontracts.stores.base import About
from tbcontracts.stores.postgres_plan import Plan, Query, Rows
from tbcontracts.stores.sql import Statements, days_in
from tbcontracts.stores.urls import masked, without_password

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
    from psycopg.abc import PQGen

    _Base = psycopg.Connection[tuple[Any, ...]]
else:
    _Base = psycopg.Connection

T = TypeVar("T")

SCHEMA_VERSION = 1
TIMEOUT_S = 30.0
_TIMEOUT_MOST_S = 86_400
_CONNECT_MOST_S = 10
_GRACE_S = 2.0  # the server is the first to lose its patience: it can say with what
_LOOK_EVERY_S = 0.1
_THERE = (
    "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'version'),"
    " (SELECT count(*) FROM pg_namespace WHERE nspname = %s)"
)
_PATIENCE = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
_LOCK = 0x54424331  # for the advisory lock under which the schema is made
_COMMITS_LATER = (
    "synchronous_commit is off: a crash of the server may lose what was acknowledged last."
)
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_AGAIN = ("40001", "40P01")  # serialization failure, deadlock
# The server ended the connection: it is shut down, crashed, not there yet, or lost patience.
_ENDED = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")


class PostgresOptions(NamedTuple):
    """Which database, and where in it."""

    conninfo: str
    schema: str
    shown: str
    """The URL without its password, for errors."""
    timeout_s: float = TIMEOUT_S
    """How long the server may take for a command, the wait for a scope's lock included."""
    keep_days: float | None = None
    """For how long journal entries and ended holds are kept; None is for ever."""
    read_only: bool = False
    """To look at books: tables that are not there are not made."""

    @classmethod
    def from_url(cls, url: str, *, read_only: bool = False) -> PostgresOptions:
        """Read a URL as libpq takes it, with our own options in it.

        Args:
            url: `postgresql://user@host/database`; our options are `ledger_schema=tbcontracts`,
                `ledger_timeout_s=30` and `keep_days=30`, everything else in it is libpq's.
            read_only: Commands are refused, and no table is made.

        Raises:
            ConfigurationError: The schema is no plain name, or the time is none.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = options.pop("ledger_schema", "tbcontracts")
        if not _NAME.fullmatch(schema):
            msg = f"ledger_schema must be a plain lower-case name, not {schema[:60]!r}."
            raise ConfigurationError(msg, remedy="What helps: ?ledger_schema=tbcontracts.")
        timeout_s = _seconds(options.pop("ledger_timeout_s", str(TIMEOUT_S)))
        keep_days = days_in(options.pop("keep_days", None))
        query = urlencode(options)
        conninfo = urlunsplit(parts._replace(query=query))
        return cls(conninfo, schema, masked(url), timeout_s, keep_days, read_only)

    def missing(self) -> StoreError:
        """Return the error for a role that may neither use our tables nor make them."""
        msg = (
            f"{self.shown} has no ledger in schema {self.schema!r} that this role may use or make."
        )
        helps = "What helps: a role that may create the schema, once; later ones need its tables."
        return StoreError(msg, remedy=helps)

    def not_made(self) -> StoreError:
        """Return the error for a database without our tables, where none are to be made."""
        msg = f"{self.shown} has no ledger in schema {self.schema!r}."
        return StoreError(
            msg, remedy="What helps: another URL; or tbc store init, which makes one."
        )

    def newer(self, version: int) -> StoreError:
        """Return the error for tables of a later version of this package."""
        msg = f"The ledger in {self.shown} has version {version}, this package {SCHEMA_VERSION}."
        return StoreError(msg, remedy="What helps: a newer tbcontracts.")

    def failed(self, error: BaseException) -> StoreError:
        """Return what callers get when the server did not answer, or refused."""
        said = as_sentence(without_password(" ".join(str(error).split()), self.conninfo)[:200])
        msg = f"The ledger {self.shown} did not answer: {said}"
        return StoreError(msg, remedy="What helps: see that the server can be reached; then again.")


def bring_up(options: PostgresOptions) -> Plan[int]:
    """See that the tables are there; the first to come makes them. Returns their version."""
    # Asked of the tables themselves: what a session remembers of a name may be out of date.
    there = Query(_THERE, (options.schema, options.schema))
    # The server's own patience, also with one of our processes that is stopped with a lock.
    patience = [Query(f"SET {name} = {math.ceil(options.timeout_s * 1_000)}") for name in _PATIENCE]
    *_, (found,) = yield [*patience, there]
    if not found[0] and options.read_only:
        raise options.not_made()
    if not found[0]:
        _, _, (found,) = yield [
            Query("BEGIN"),
            Query(f"SELECT pg_advisory_xact_lock({_LOCK})"),
            there,
        ]
        if not found[0]:  # else another process was faster
            text = files("tbcontracts.stores").joinpath("schema_postgres.sql").read_text("utf-8")
            made = text.replace("{schema}", options.schema).split(";\n")
            if found[1]:  # somebody made the schema, perhaps for a role that may not
                del made[0]
            version = f"INSERT INTO {options.schema}.version VALUES ({SCHEMA_VERSION})"  # noqa: S608 - a checked name
            yield [*(Query(statement) for statement in made if statement.strip()), Query(version)]
        yield [Query("COMMIT")]
    ((found,),) = yield [Query(f"SELECT version FROM {options.schema}.version")]  # noqa: S608 - a checked name
    return int(found[0])


def about(options: PostgresOptions, sql: Statements) -> Plan[About]:
    """Ask for what there is to know of the database."""
    size = (
        "SELECT coalesce(sum(pg_total_relation_size(quote_ident(schemaname) || '.' "
        "|| quote_ident(tablename))), 0)::bigint FROM pg_tables WHERE schemaname = %s"
    )
    shown, safe, entries, sizes, versions = yield [
        Query("SHOW server_version"),
        Query("SHOW synchronous_commit"),
        Query(sql.count_entries),
        Query(size, (options.schema,)),
        Query(f"SELECT version FROM {options.schema}.version"),  # noqa: S608 - a checked name
    ]
    return About(
        kind="PostgreSQL database",
        place=options.shown,
        software=f"PostgreSQL {shown[0][0]}",
        layout=int(versions[0][0]),
        layout_known=SCHEMA_VERSION,
        entries=int(entries[0][0]),
        size_bytes=int(sizes[0][0]),
        dangers=(_COMMITS_LATER,) if safe[0][0] == "off" else (),
    )


def may_be_repeated(error: BaseException) -> bool:
    """Return whether a transaction came to nothing only because of what happened around it."""
    return is_broken(error) or getattr(error, "sqlstate", None) in _AGAIN


def is_broken(error: BaseException) -> bool:
    """Return whether a connection was lost, so that nobody knows what became of a commit.

    Whatever else the server says, it says in the place of a commit: then nothing was written.
    """
    if isinstance(error, psycopg.InterfaceError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate[:2] == "08" or error.sqlstate in _ENDED


class Connection(_Base):
    """A connection that waits for the server only until a given time.

    It is in the driver's pipeline mode for as long as it lives: what belongs to one trip goes out
    together, and nothing after it. (Left after each trip, that mode sends one thing more, and the
    server does not see that a transaction is idle.)
    """

    ends_s: float | None = None
    """When its patience ends, on the clock of `time.monotonic`."""

    def begin(self) -> None:
        """Get ready for trips.

        Not by the driver's context manager: left to the garbage collector in a forked child, that
        would write to the parent's connection.
        """
        self._pipeline = psycopg.Pipeline(self)
        self._pipeline.__enter__()

    def trip(self, queries: list[Query]) -> Rows:
        """Send queries together; return the rows of each."""
        assert self._pipeline is not None
        cursors = [self.execute(text, values or None) for text, values in queries]  # type: ignore[arg-type, unused-ignore]
        self._pipeline.sync()
        return [list(one) if one.description is not None else [] for one in cursors]

    def close(self) -> None:
        """Close it, whatever it is in the middle of."""
        super().close()
        self._pipeline = None

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        """Wait for an answer."""
        options.setdefault("interval", _LOOK_EVERY_S)
        return super().wait(self._until(gen), *args, **options)

    def _until(self, waiting: PQGen[T]) -> PQGen[T]:
        """Pass on what a wait yields; give up when its time is over.

        The server may be stopped, or its network be gone without a word: only we can end that.
        """
        try:
            state = next(waiting)
            while True:
                ready = yield state
                if self.ends_s is not None and time.monotonic() > self.ends_s + _GRACE_S:
                    self.pgconn.finish()
                    msg = "no answer in time"
                    raise psycopg.OperationalError(msg)
                state = waiting.send(ready)
        except StopIteration as done:
            return cast("T", done.value)


def connect(options: PostgresOptions, ends_s: float) -> Connection:
    """Connect, and see that the tables are there.

    Args:
        options: Which database.
        ends_s: When to give up, on the clock of `time.monotonic`.
    """
    left_s = min(_CONNECT_MOST_S, math.ceil(ends_s - time.monotonic()))
    db = Connection.connect(options.conninfo, autocommit=True, connect_timeout=max(2, left_s))
    db.begin()
    try:
        _check_version(options, run(db, bring_up(options), ends_s))
    except errors.InsufficientPrivilege as error:
        db.close()
        raise options.missing() from error
    except BaseException:
        db.close()
        raise
    return db


def run(db: Connection, plan: Plan[T], ends_s: float) -> T:
    """Run a plan on a connection; a failed one is rolled back."""
    answers: Rows | None = None
    db.ends_s = ends_s
    try:
        while True:
            answers = db.trip(next(plan) if answers is None else plan.send(answers))
    except StopIteration as done:
        return cast("T", done.value)
    except BaseException:
        with suppress(psycopg.Error):  # a lost connection has rolled back already
            db.trip([Query("ROLLBACK")])
        raise


def _check_version(options: PostgresOptions, version: int) -> None:
    """Refuse tables that a later version of this package has made."""
    if version > SCHEMA_VERSION:
        raise options.newer(version)


def _seconds(text: str) -> float:
    """Read a time from a URL.

    Raises:
        ConfigurationError: It is none.
    """
    with suppress(ValueError):
        seconds = float(text)
        if 0 < seconds <= _TIMEOUT_MOST_S:
            return seconds
    msg = f"ledger_timeout_s must be seconds, up to {_TIMEOUT_MOST_S:,}, not {text[:60]!r}."
    raise ConfigurationError(msg, remedy="What helps: ?ledger_timeout_s=30.")
