"""Commands in line for one transaction: a durable write is slow, but one pays for many commands.

Each caller puts its command in line and wants the pen. Whoever gets it carries out all that is in
line, and the others find theirs done; nobody waits for a thread of the store.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from tbcontracts.commands import Command
from tbcontracts.stores.base import Applied

BATCH_MOST = 64


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
        """Wake its owner, now or when it goes to sleep."""
        with suppress(RuntimeError):  # it was woken already
            self._asleep.release()

    def result(self) -> Applied:
        """Return what came of it, or raise what it raised."""
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Line:
    """Those who want commands carried out.

    Args:
        commit: Carries out commands in one transaction and returns what came of each. What it
            raises becomes the outcome of all of them, by `failure`.
        failure: Turns what `commit` raised into the error that callers get.
    """

    def __init__(
        self,
        commit: Callable[[list[Job]], Sequence[Applied | Exception]],
        failure: Callable[[BaseException], Exception],
    ) -> None:
        self._commit = commit
        self._failure = failure
        self._jobs: deque[Job] = deque()
        self.pen = threading.Lock()
        """Whoever has it is the only one who writes."""

    def carry_out(self, scope: str, command: Command) -> Applied:
        """Carry out a command; returns once it is written."""
        job = Job(scope, command)
        self._jobs.append(job)
        while job.outcome is None:
            if self.pen.acquire(blocking=False):
                try:
                    self._serve(self._next_batch())
                finally:
                    self.pen.release()
                with suppress(IndexError):  # nobody is in line
                    # The first may have gone to sleep while this thread had the pen.
                    self._jobs[0].wake()
            else:
                job.wait()
        return job.result()

    def _next_batch(self) -> list[Job]:
        """Take from the line what goes into one transaction.

        Those who were just answered are on their way to ask again: while more come in, they are
        worth letting run, because one transaction serves all of them.
        """
        waiting = 0
        while waiting < len(self._jobs) < BATCH_MOST:
            waiting = len(self._jobs)
            time.sleep(0)
        return [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_MOST))]

    def _serve(self, batch: list[Job]) -> None:
        """Carry out a batch; whatever happens, nobody in it is left asleep."""
        outcomes: Sequence[Applied | Exception] = ()
        try:
            outcomes = self._commit(batch)
        except BaseException as error:
            outcomes = [self._failure(error) for _ in batch]
            if not isinstance(error, Exception):
                raise  # an interrupt belongs to the thread that had the pen
        finally:
            for job, outcome in zip(batch, outcomes, strict=True):
                job.outcome = outcome
                job.wake()
