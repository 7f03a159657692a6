"""Commands in line for one transaction: a durable write is slow, but one pays for many commands.

Each caller puts its command in line and wants the pen. Whoever gets it carries out all that is in
line, and the others find theirs done; nobody waits for a thread of the store. Only a task that
awaits has no thread to spare: a clerk takes the pen for it, so that no transaction depends on an
event loop that may be blocked, or gone.

What comes in the middle of a command on the same thread (`stores.interrupted`) is put in line, and
seen to before the thread goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

from tbcontracts.commands import Command
from tbcontracts.errors import StoreError
from tbcontracts.events import JournalEntry
from tbcontracts.stores.base import Applied
from tbcontracts.stores.interrupted import answer_now, note_failure

T = TypeVar("T")

BATCH_MOST = 64


class Clerks:
    """A few threads that work for those who await.

    Args:
        most: How many there are at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.dismiss()

    def hire(self, work: Callable[[], object]) -> None:
        """Have something done; when the interpreter ends there are no more threads for it."""
        try:
            self._threads.submit(work)
        except RuntimeError:
            work()

    async def do(self, work: Callable[[], T]) -> T:
        """Have something done, and await what comes of it."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def dismiss(self) -> None:
        """Let the threads end when they are done with what they were given.

        New ones begin when there is something to do, and end with the object that hired them.
        """
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="tbcontracts-clerk")


class Job:
    """A command in line, and what came of it."""

    __slots__ = ("_asleep", "command", "outcome", "scope")

    def __init__(self, scope: str, command: Command) -> None:
        self.scope = scope
        self.command = command
        self.outcome: Applied | Exception | None = None
        self._asleep = threading.Lock()  # held, so that whoever waits for it sleeps
        self._asleep.acquire()

    def wait(self) -> None:
        """Sleep until somebody wakes this job's owner."""
        self._asleep.acquire()

    def wake(self) -> None:
        """Wake its owner, now or when it goes to sleep: the pen may be free."""
        with suppress(RuntimeError):  # it was woken already
            self._asleep.release()

    def is_wanted(self) -> bool:
        """Return whether it is to be carried out, now that it is its turn."""
        return True

    def end(self, outcome: Applied | Exception) -> None:
        """Tell its owner what came of it."""
        self.outcome = outcome
        self.wake()

    def result(self) -> Applied:
        """Return what came of it, or raise what it raised."""
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class _AwaitedJob(Job):
    """A command whose owner awaits it."""

    __slots__ = ("_hire", "future")

    def __init__(self, scope: str, command: Command, hire: Callable[[], None]) -> None:
        super().__init__(scope, command)
        self.future: Future[Applied] = Future()
        self._hire = hire

    def wake(self) -> None:
        """Have a clerk look whether the pen is free."""
        self._hire()

    def is_wanted(self) -> bool:
        """Return whether it was not cancelled in line; from now on it cannot be."""
        return self.future.set_running_or_notify_cancel()

    def end(self, outcome: Applied | Exception) -> None:
        """Tell its owner, wherever its event loop is."""
        self.outcome = outcome
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class _AtWork(threading.local):
    """What a thread does for a line: nothing, or a command with what came in the middle of it."""

    put_off: deque[Job] | None = None


class Line:
    """Those who want commands carried out.

    Args:
        commit: Carries out commands in one transaction and returns what came of each. What it
            raises becomes the outcome of all of them, by `failure`.
        failure: Turns what `commit` raised into the error that callers get.
        clerks: Work for those who await.
    """

    def __init__(
        self,
        commit: Callable[[list[Job]], Sequence[Applied | Exception]],
        failure: Callable[[BaseException], Exception],
        clerks: Clerks,
    ) -> None:
        self._commit = commit
        self._failure = failure
        self._clerks = clerks
        self._jobs: deque[Job] = deque()
        self._pen = threading.Lock()  # whoever has it is the only one who writes
        self._at_work = _AtWork()

    @property
    def in_use(self) -> bool:
        """Whether somebody is in line or writes."""
        return bool(self._jobs) or self._pen.locked()

    def carry_out(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once it is written."""
        if self._at_work.put_off is not None:
            return self._put_off(scope, command)
        job = Job(scope, command)
        late: list[JournalEntry] = []
        with self._working(scope, late):
            self._jobs.append(job)
            try:
                self._see_to(job)
            except BaseException:
                self._withdraw(job)
                raise
        applied = job.result()
        return applied._replace(entries=(*applied.entries, *late)) if late else applied

    async def acarry_out(self, scope: str, command: Command) -> Applied:
        """Carry out a command; cancelled before its turn, it is not."""
        import asyncio

        job = _AwaitedJob(scope, command, self._hire)
        self._jobs.append(job)
        if not self._pen.locked():  # else whoever has it sees to it that somebody is next
            self._hire()
        return await asyncio.wrap_future(job.future)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep everybody from writing; who comes meanwhile waits.

        Raises:
            StoreError: This thread is in the middle of a command.
        """
        if self._at_work.put_off is not None:
            msg = "A store was closed from the middle of one of its own commands."
            raise StoreError(msg, remedy="What helps: closing it elsewhere.")
        try:
            with self._pen:
                yield
        finally:
            self._pass_on()

    def _hire(self) -> None:
        self._clerks.hire(self._clerk)

    def _clerk(self) -> None:
        """Carry out what is in line, unless somebody does already."""
        with self._working(None, []):
            self._write()

    def _see_to(self, job: Job) -> None:
        """Return when a job is done, whoever does it."""
        while job.outcome is None:
            if not self._write():
                job.wait()

    def _write(self) -> bool:
        """Carry out what is in line, if the pen is free; return whether it was."""
        if not self._pen.acquire(blocking=False):
            return False
        try:
            self._serve(self._next_batch())
        finally:
            self._pen.release()
            self._pass_on()
        return True

    def _pass_on(self) -> None:
        """Tell who is next: it may have gone to sleep while this thread had the pen."""
        with suppress(IndexError):  # nobody is in line
            self._jobs[0].wake()

    def _withdraw(self, job: Job) -> None:
        """Leave the line, because of an interrupt; the turn that was to come goes to the next."""
        with suppress(ValueError):  # it was taken out of the line already
            self._jobs.remove(job)
        self._pass_on()

    def _next_batch(self) -> list[Job]:
        """Take from the line what goes into one transaction.

        Those who were just answered are on their way to ask again: while more come in, they are
        worth letting run, because one transaction serves all of them.
        """
        waiting = 0
        while waiting < len(self._jobs) < BATCH_MOST:
            waiting = len(self._jobs)
            time.sleep(0)
        batch: list[Job] = []
        while self._jobs and len(batch) < BATCH_MOST:
            with suppress(IndexError):  # the last one just left
                job = self._jobs.popleft()
                if job.is_wanted():
                    batch.append(job)
        return batch

    def _serve(self, batch: list[Job]) -> None:
        """Carry out a batch; whatever happens, nobody in it is left asleep."""
        if not batch:
            return
        outcomes: Sequence[Applied | Exception] = ()
        try:
            outcomes = self._commit(batch)
        except BaseException as error:
            outcomes = [self._failure(error) for _ in batch]
            if not isinstance(error, Exception):
                raise  # an interrupt belongs to the thread that had the pen
        finally:
            for job, outcome in zip(batch, outcomes, strict=True):
                job.end(outcome)

    # --- in the middle of a command ---------------------------------------------------------------

    def _put_off(self, scope: str, command: Command) -> Applied:
        """Put a command in line behind the one that this thread is in the middle of."""
        answer = answer_now(command)
        job = Job(scope, command)
        self._jobs.append(job)
        assert self._at_work.put_off is not None
        self._at_work.put_off.append(job)
        return answer

    @contextmanager
    def _working(self, scope: str | None, late: list[JournalEntry]) -> Iterator[None]:
        """See to what is put off meanwhile; note what that wrote on a scope's books."""
        put_off: deque[Job] = deque()
        self._at_work.put_off = put_off
        try:
            yield
        finally:
            while put_off:
                job = put_off.popleft()
                try:
                    self._see_to(job)
                    late.extend(job.result().entries if job.scope == scope else ())
                except Exception:
                    note_failure()
            self._at_work.put_off = None
