"""How callers get at PostgreSQL: in line for a scope, on a free connection, plain or awaited.

What is tried when is decided once (`_attempts`), for both: a transaction that the server undid, or
whose connection was lost before the commit, is carried out again; one whose commit was not answered
is looked up by its number.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from tbcontracts.commands import Command
from tbcontracts.errors import OutcomeUnknownError, StoreError
from tbcontracts.stores import postgres_link as link
from tbcontracts.stores import postgres_plan as plans
from tbcontracts.stores.base import Applied, Clock
from tbcontracts.stores.line import BATCH_MOST, Job, Line
from tbcontracts.stores.postgres_link import PostgresOptions
from tbcontracts.stores.postgres_plan import Plan, Transaction
from tbcontracts.stores.rows import ScopeRows
from tbcontracts.stores.sql import Statements

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

SCOPES_KEPT = 256
_PAUSES_S = (0.0, 0.05, 0.2, 0.5, 1.0)
Outcomes = Sequence[Applied | Exception]
Steps = Generator["float | Plan[Any]", Any, Outcomes]
"""Yields seconds to wait, or a plan to run; is sent what the plan returned, or thrown its error."""


class Ledger:
    """A ledger on a server: what plain and awaited callers share.

    Args:
        options: Which database, and where in it.
        sql: The statements.
        clock: Returns the time where the server's is not to be used.
    """

    def __init__(self, options: PostgresOptions, sql: Statements, clock: Clock | None) -> None:
        self.options = options
        self._sql = sql
        self._clock = clock
        self.behind_s: float | None = None
        """How far this process's clock is behind the server's; None before the first answer."""

    def note_time(self, there_s: float) -> None:
        """Note what time it is on the server."""
        self.behind_s = there_s - time.time()

    def failed(self, error: BaseException) -> StoreError:
        """Return what callers get when the server did not answer."""
        return error if isinstance(error, StoreError) else self.options.failed(error)

    def attempts(self, books: Books, batch: Sequence[Job]) -> Steps:
        """Carry out commands of one scope in one transaction, again where nothing came of it."""
        trouble: Exception | None = None
        for pause_s in _PAUSES_S:
            yield pause_s
            commands = [job.command for job in batch]
            done = Transaction(self._sql, batch[0].scope, books.rows, commands, self._clock)
            try:
                yield done.plan()
            except Exception as error:
                books.rows = ScopeRows()  # what was kept may be ahead of the server
                trouble = error
                became: str | None = "aborted"
                if link.is_broken(error) and done.number is not None:
                    became = yield from self._became_of(done.number)
                elif not link.is_broken(error) and not link.may_be_repeated(error):
                    raise
                if became == "aborted":
                    continue
                if became != "committed":
                    return [self._unknown(job.command, error) for job in batch]
            self.note_time(done.now_s)
            return done.outcomes
        assert trouble is not None
        raise trouble

    def _became_of(self, number: str) -> Generator[float | Plan[Any], Any, str | None]:
        """Find out what became of a transaction whose commit was not answered."""
        for pause_s in _PAUSES_S:
            yield pause_s
            try:
                became: str | None = yield plans.became_of(number)
            except Exception as error:
                if not link.is_broken(error):
                    raise
                continue
            if became != "in progress":
                return became
        return None

    def _unknown(self, command: Command, error: Exception) -> OutcomeUnknownError:
        """Return the error for a command of which nobody can say whether it took effect."""
        key = getattr(command, "key", None) or getattr(command, "hold_id", None) or "(none)"
        said = f"{self.failed(error).message} Whether the command took effect is not known."
        return OutcomeUnknownError(key, said)


class Books:
    """What is kept of a scope; a new one takes its place when a transaction fails."""

    def __init__(self) -> None:
        self.rows = ScopeRows()


class _Kept(Generic[T]):
    """The scopes that were used last, and what is kept of each."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._scopes: OrderedDict[str, T] = OrderedDict()

    def of(self, scope: str) -> T:
        """Return what is kept of a scope."""
        if scope not in self._scopes:
            self._scopes[scope] = self._make()
            while len(self._scopes) > SCOPES_KEPT:
                self._scopes.popitem(last=False)
        self._scopes.move_to_end(scope)
        return self._scopes[scope]


class Plain:
    """Plain connections, and a line for each scope."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._lines = _Kept(self._new_line)
        self._idle: list[link.Connection] = []

    def carry_out(self, scope: str, command: Command) -> Applied:
        """Carry out a command, together with those that wait."""
        with self._lock:
            line = self._lines.of(scope)
        return line.carry_out(scope, command)

    def _new_line(self) -> Line:
        books = Books()
        return Line(lambda batch: self._drive(books, batch), self._ledger.failed)

    def _drive(self, books: Books, batch: list[Job]) -> Outcomes:
        """Do what the attempts say."""
        steps = self._ledger.attempts(books, batch)
        answer: Any = None
        trouble: Exception | None = None
        while True:
            try:
                step = steps.send(answer) if trouble is None else steps.throw(trouble)
            except StopIteration as done:
                outcomes: Outcomes = done.value
                return outcomes
            answer = trouble = None
            try:
                if isinstance(step, (int, float)):
                    time.sleep(step)
                else:
                    answer = self._on_connection(step)
            except Exception as error:
                trouble = error

    def ask(self, make: Callable[[], Plan[T]]) -> T:
        """Run a plan that only reads; a connection that had died meanwhile is replaced."""
        try:
            try:
                return self._on_connection(make())
            except Exception as error:
                if not link.is_broken(error):
                    raise
                return self._on_connection(make())
        except Exception as error:
            raise self._ledger.failed(error) from error

    def _on_connection(self, plan: Plan[T]) -> T:
        with self._lock:
            db = self._idle.pop() if self._idle else None
        db = db or link.connect(self._ledger.options)
        try:
            answer = link.run(db, plan)
        except BaseException:
            db.close()
            raise
        with self._lock:
            self._idle.append(db)
        return answer

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()


class _AwaitedJob(NamedTuple):
    """A command in line, and where its caller waits."""

    job: Job
    done: asyncio.Future[Applied]


class _AwaitedLine:
    """Those who await something of a scope; one task serves them, as long as there are any."""

    def __init__(self) -> None:
        self.books = Books()
        self.waiting: deque[_AwaitedJob] = deque()
        self.server: asyncio.Task[None] | None = None


class Awaited:
    """The connections of one event loop, and a line for each scope."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lines = _Kept(_AwaitedLine)
        self._idle: list[link.AsyncConnection] = []

    async def carry_out(self, scope: str, command: Command) -> Applied:
        """Carry out a command, together with those that wait; cancelled in line, it is not."""
        import asyncio

        loop = asyncio.get_running_loop()
        line = self._lines.of(scope)
        waiting = _AwaitedJob(Job(scope, command), loop.create_future())
        line.waiting.append(waiting)
        if line.server is None:
            line.server = loop.create_task(self._serve(line))
        return await waiting.done

    async def _serve(self, line: _AwaitedLine) -> None:
        """Carry out what is in line until nobody waits."""
        try:
            while line.waiting:
                most = min(len(line.waiting), BATCH_MOST)
                taken = [line.waiting.popleft() for _ in range(most)]
                batch = [one for one in taken if not one.done.done()]  # else cancelled in line
                if batch:
                    await self._serve_batch(line, batch)
        finally:
            line.server = None

    async def _serve_batch(self, line: _AwaitedLine, batch: list[_AwaitedJob]) -> None:
        """Carry out a batch, and answer everybody in it."""
        outcomes: Outcomes = ()
        try:
            outcomes = await self._drive(line.books, [one.job for one in batch])
        except BaseException as error:
            outcomes = [self._ledger.failed(error) for _ in batch]
            if not isinstance(error, Exception):
                raise
        finally:
            for one, outcome in zip(batch, outcomes, strict=True):
                if one.done.done():
                    continue
                if isinstance(outcome, Exception):
                    one.done.set_exception(outcome)
                else:
                    one.done.set_result(outcome)

    async def _drive(self, books: Books, batch: list[Job]) -> Outcomes:
        """Do what the attempts say."""
        import asyncio

        steps = self._ledger.attempts(books, batch)
        answer: Any = None
        trouble: Exception | None = None
        while True:
            try:
                step = steps.send(answer) if trouble is None else steps.throw(trouble)
            except StopIteration as done:
                outcomes: Outcomes = done.value
                return outcomes
            answer = trouble = None
            try:
                if isinstance(step, (int, float)):
                    await asyncio.sleep(step)
                else:
                    answer = await self._on_connection(step)
            except Exception as error:
                trouble = error

    async def ask(self, make: Callable[[], Plan[T]]) -> T:
        """Run a plan that only reads; a connection that had died meanwhile is replaced."""
        try:
            try:
                return await self._on_connection(make())
            except Exception as error:
                if not link.is_broken(error):
                    raise
                return await self._on_connection(make())
        except Exception as error:
            raise self._ledger.failed(error) from error

    async def _on_connection(self, plan: Plan[T]) -> T:
        db = self._idle.pop() if self._idle else await link.aconnect(self._ledger.options)
        try:
            answer = await link.arun(db, plan)
        except BaseException:
            await db.close()
            raise
        self._idle.append(db)
        return answer

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for db in idle:
            await db.close()
