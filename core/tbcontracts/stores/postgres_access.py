"""How callers get at PostgreSQL: in line for a scope, on a free connection, and within a time.

A transaction that the server undid, or whose connection was lost before the commit, is carried out
again; one whose commit was not answered is looked up by its number.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from tbcontracts.commands import Command
from tbcontracts.errors import OutcomeUnknownError, StoreError
from tbcontracts.stores import postgres_link as link
from tbcontracts.stores import postgres_plan as plans
from tbcontracts.stores.base import Applied, Clock
from tbcontracts.stores.line import Clerks, Job, Line
from tbcontracts.stores.postgres_link import Connection, PostgresOptions
from tbcontracts.stores.postgres_plan import Plan, Transaction
from tbcontracts.stores.rows import ScopeRows
from tbcontracts.stores.sql import Statements

T = TypeVar("T")

SCOPES_KEPT = 256
CLERKS_MOST = 16
IDLE_MOST = 16
_PAUSES_S = (0.0, 0.05, 0.2, 0.5, 1.0)
Outcomes = Sequence[Applied | Exception]


class _Books:
    """What is kept of a scope; a new one takes its place when a transaction fails."""

    def __init__(self) -> None:
        self.rows = ScopeRows()


class Ledger:
    """A ledger on a server, as one process gets at it.

    Args:
        options: Which database, and where in it.
        sql: The statements.
        clock: Returns the time where the server's is not to be used.
    """

    def __init__(self, options: PostgresOptions, sql: Statements, clock: Clock | None) -> None:
        self._options = options
        self._sql = sql
        self._clock = clock
        self.clerks = Clerks(CLERKS_MOST)
        self.behind_s: float | None = None
        """How far this process's clock is behind the server's; None before the first answer."""
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._idle: list[Connection] = []

    # --- lines ------------------------------------------------------------------------------------

    def line(self, scope: str) -> Line:
        """Return where to stand in line for a scope.

        The scopes that were used last are kept. Two lines for one scope would be no harm, as two
        processes are none, but one of them in the middle of the other would wait for its own lock.
        """
        with self._lock:
            line = self._lines.get(scope)
            if line is None:
                line = self._lines[scope] = self._new_line()
                for other in list(self._lines)[: max(0, len(self._lines) - SCOPES_KEPT)]:
                    if not self._lines[other].in_use:
                        del self._lines[other]
            self._lines.move_to_end(scope)
        return line

    def _new_line(self) -> Line:
        books = _Books()
        return Line(lambda batch: self._carry_out(books, batch), self.failed, self.clerks)

    # --- commands ---------------------------------------------------------------------------------

    def _carry_out(self, books: _Books, batch: Sequence[Job]) -> Outcomes:
        """Carry out commands of one scope in one transaction, again where nothing came of it."""
        ends_s = time.monotonic() + self._options.timeout_s
        commands = [job.command for job in batch]
        for left, pause_s in zip(range(len(_PAUSES_S))[::-1], _PAUSES_S, strict=True):
            time.sleep(pause_s)
            done = Transaction(
                self._sql,
                batch[0].scope,
                books.rows,
                commands,
                self._clock,
                self._options.keep_days,
            )
            try:
                self._on_connection(done.plan(), ends_s)
            except Exception as error:
                books.rows = ScopeRows()  # what was kept may be ahead of the server
                became: str | None = "aborted"
                if link.is_broken(error) and done.number is not None:
                    became = self._became_of(done.number)
                if became == "aborted":
                    if left and link.may_be_repeated(error) and time.monotonic() < ends_s:
                        continue
                    raise
                if became != "committed":
                    return [self._unknown(command, error) for command in commands]
            self.note_time(done.now_s)
            return done.outcomes
        msg = "the last attempt returns or raises"
        raise AssertionError(msg)

    def _became_of(self, number: str) -> str | None:
        """Find out what became of a transaction whose commit was not answered."""
        ends_s = time.monotonic() + self._options.timeout_s
        for pause_s in _PAUSES_S:
            time.sleep(pause_s)
            try:
                became = self._on_connection(plans.became_of(number), ends_s)
            except Exception as error:
                if not link.is_broken(error) or time.monotonic() > ends_s:
                    return None
                continue
            if became != "in progress":
                return became
        return None

    def _unknown(self, command: Command, error: Exception) -> OutcomeUnknownError:
        """Return the error for a command of which nobody can say whether it took effect."""
        key = getattr(command, "key", None) or getattr(command, "hold_id", None) or ""
        said = f"{self.failed(error).message} Whether the command took effect is not known."
        return OutcomeUnknownError(key, said)

    def failed(self, error: BaseException) -> StoreError:
        """Return what callers get when the server did not answer."""
        return error if isinstance(error, StoreError) else self._options.failed(error)

    # --- questions --------------------------------------------------------------------------------

    def ask(self, make: Callable[[], Plan[T]]) -> T:
        """Run a plan that only reads; a connection that had died meanwhile is replaced."""
        ends_s = time.monotonic() + self._options.timeout_s
        try:
            try:
                return self._on_connection(make(), ends_s)
            except Exception as error:
                if not link.is_broken(error):
                    raise
                return self._on_connection(make(), ends_s)
        except Exception as error:
            raise self.failed(error) from error

    def note_time(self, there_s: float) -> None:
        """Note what time it is on the server."""
        self.behind_s = there_s - time.time()

    # --- connections ------------------------------------------------------------------------------

    def _on_connection(self, plan: Plan[T], ends_s: float) -> T:
        with self._lock:
            db = self._idle.pop() if self._idle else None
        db = db or link.connect(self._options, ends_s)
        try:
            answer = link.run(db, plan, ends_s)
        except BaseException as error:
            db.close()
            if link.is_broken(error):
                self.close()  # the others were lost with it, most likely
            raise
        with self._lock:
            if len(self._idle) < IDLE_MOST:
                self._idle.append(db)
                return answer
        db.close()
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses; there are new ones when somebody asks again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
