"""What was used and is not on the books yet, because the store did not answer.

It is kept in order, for each scope, and posted by a thread that tries again and again, less and
less often, until the store answers; and at the end of the process. Everything in it may be sent
twice: a hold is resolved once, and a charge has a key.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.commands import Charge, Confidence, Done, Posted, Reply, Settle, Void
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError
from tbcontracts.kept import Kept, Postable
from tbcontracts.money import said as amount_said

if TYPE_CHECKING:
    from tbcontracts.outbox import Outbox

KEPT_MOST = 100_000
"""How many commands are kept at most."""
PAUSE_MOST_S = 30.0
"""How long the thread waits between two attempts at most."""
_FIRST_PAUSE_S = 0.5
_SCOPES_FAILED_MOST = 3
_EXIT_WAIT_S = 5.0
_log = logging.getLogger("tbcontracts")
_backlogs: weakref.WeakSet[Backlog] = weakref.WeakSet()


class Unposted(NamedTuple):
    """What this process used and could not post yet, and what came of the rest."""

    waiting: int
    """Settlements, charges and other ends of holds that wait for the store."""
    tokens: int
    """What they would post, in the unit of the books."""
    since: float | None
    """When the oldest was kept, in seconds since the epoch; None if nothing waits."""
    refused: int
    """Ends that the books did not take in the end: the hold was ended differently meanwhile."""
    uncovered: int
    """How much was posted late that no budget covered, in the unit of the books."""
    unheld: int
    """Calls that went out without a hold, because the store did not answer."""


class Backlog:
    """Keeps what could not be posted, and posts it.

    Args:
        send: Carries out a command; raises `StoreError` where the store does not answer.
        outbox: Where commands are noted before they are sent, so that they outlive the process.
        now: Returns seconds since the epoch.
        pause: Waits for so many seconds, or until the event is set.
    """

    def __init__(
        self,
        send: Callable[[Kept], Reply],
        outbox: Outbox | None = None,
        *,
        unit: str = "tokens",
        now: Callable[[], float] = time.time,
        pause: Callable[[float, threading.Event], object] = lambda s, woken: woken.wait(s),
    ) -> None:
        self._send = send
        self._unit = unit
        self._now = now
        self._pause = pause
        self._numbers = itertools.count(1 if outbox is None else outbox.next_number)
        self.begin_anew(outbox)
        self.refused = 0
        self.uncovered = 0
        _backlogs.add(self)
        for kept in outbox.left if outbox is not None else ():
            self._add(kept)

    def begin_anew(self, outbox: Outbox | None = None) -> None:
        """Begin with nothing; a forked child leaves what is here, and the outbox, to its parent."""
        self._outbox = outbox
        self._lines: dict[str, deque[Kept]] = {}
        self._last: dict[tuple[str, str | None], Postable] = {}  # by what it is about
        self._count = 0
        # A finalizer may come back here on the same thread, so both may be taken twice.
        self._lock = threading.RLock()
        self._passing = threading.RLock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits and nothing is noted: commands go straight to the store."""
        return self._outbox is None and not self._count

    @property
    def notes_on_disk(self) -> bool:
        """Whether noting a command takes as long as the disk does."""
        return self._outbox is not None

    def __len__(self) -> int:
        """Return how many commands wait."""
        return self._count

    def goes_before(self, scope: str, command: Postable) -> bool:
        """Return whether something else about the same hold, or agent's score, waits."""
        return self._last.get((scope, _subject(command)), command) != command

    def note(self, scope: str, command: Postable, contract: BudgetContract | None) -> Kept:
        """Note a command that is about to be sent, in the outbox if there is one."""
        kept = Kept(next(self._numbers), scope, command, contract, self._now())
        if self._outbox is not None:
            try:
                self._outbox.note(kept)
            except (OSError, ValueError, TypeError):
                _log.exception("The outbox cannot be written; what was used is sent without it.")
        return kept

    def done(self, kept: Kept) -> None:
        """Note that the store has a command, or refused it for good."""
        if self._outbox is not None:
            self._outbox.done(kept.number)

    def keep(self, kept: Kept) -> Reply:
        """Keep a command that was noted, and post it as soon as the store answers.

        Returns:
            What its caller is told meanwhile.

        Raises:
            StoreError: So much waits already that this is lost.
        """
        if self._count < KEPT_MOST:
            self._add(kept)
            self._start()
        elif self._outbox is None:
            msg = f"The store does not answer, and {KEPT_MOST:,} ends of calls wait for it already."
            raise StoreError(msg, remedy=f"Not kept: {_said(kept, self._unit)}.")
        else:
            _log.error("Too much waits for the store; the outbox keeps it for the next start.")
        return _for_now(kept)

    def find(self, scope: str, key: str) -> Reply | None:
        """Return what is said of a charge with this key, if it waits."""
        with self._lock:
            for kept in self._lines.get(scope, ()):
                if getattr(kept.command, "key", None) == key:
                    return _for_now(kept)
        return None

    def post_soon(self) -> None:
        """Have the thread try now: the store answers again."""
        if self._count:
            self._woken.set()
            self._start()

    def _start(self) -> None:
        """Start the thread; where the interpreter is ending, its end posts what waits."""
        with self._lock, suppress(RuntimeError):
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tbcontracts-backlog", daemon=True)
                thread.start()
                self._thread = thread

    def flush(self, timeout_s: float | None = None) -> bool:
        """Post what waits, now; each scope until the store fails once.

        Args:
            timeout_s: When to stop. A command that is under way is not interrupted.

        Returns:
            Whether nothing waits any more.
        """
        began = time.monotonic()
        if not self._passing.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return not self._count
        try:
            failed = 0
            for scope in list(self._lines):
                left_s = None if timeout_s is None else timeout_s - (time.monotonic() - began)
                failed += not self._post_line(scope, left_s)
                if failed == _SCOPES_FAILED_MOST:
                    break
        finally:
            self._passing.release()
        return not self._count

    def view(self, unheld: int) -> Unposted:
        """Return what waits now.

        Args:
            unheld: How many calls went out without a hold.
        """
        with self._lock:
            waiting = [kept for line in self._lines.values() for kept in line]
        return Unposted(
            len(waiting),
            sum(_tokens(kept.command) for kept in waiting),
            min((kept.since for kept in waiting), default=None),
            self.refused,
            self.uncovered,
            unheld,
        )

    def end(self) -> None:
        """Post what waits before the process ends; what cannot be is said."""
        if not self._count or self.flush(_EXIT_WAIT_S):
            return
        left = self.view(0)
        if self._outbox is not None:
            said = f"They are in the outbox {self._outbox.path}, for the next start."
        else:
            said = "They are lost; an outbox would have kept them."
        _log.error(
            "The process ends, and %d settlements and charges of %s are not posted. %s",
            left.waiting,
            amount_said(left.tokens, self._unit),
            said,
        )

    # --- posting ----------------------------------------------------------------------------------

    def _add(self, kept: Kept) -> None:
        with self._lock:
            self._lines.setdefault(kept.scope, deque()).append(kept)
            self._count += 1
            if (subject := _subject(kept.command)) is not None:
                self._last[kept.scope, subject] = kept.command

    def _post_line(self, scope: str, timeout_s: float | None) -> bool:
        """Post what waits for a scope's books, in order; return whether the store answered."""
        began = time.monotonic()
        line = self._lines.get(scope)
        while line:
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                return True
            kept = line[0]
            try:
                reply = self._send(kept)
            except StoreError:
                return False
            except Exception:
                self.refused += 1
                what = _said(kept, self._unit)
                _log.exception("The books of scope %r did not take %s.", scope, what)
            else:
                if isinstance(reply, Posted):
                    self.uncovered += min(reply.amount, reply.overdraft)
            self.done(kept)
            with self._lock:
                line.popleft()
                self._count -= 1
                about = (scope, _subject(kept.command))
                if self._last.get(about) is kept.command:
                    del self._last[about]
                if not line:
                    del self._lines[scope]
        return True

    def _run(self) -> None:
        """Try until nothing waits."""
        pause_s = 0.0
        while True:
            with self._lock:
                if not self._count:
                    self._thread = None
                    return
            if pause_s:
                self._pause(pause_s, self._woken)
            self._woken.clear()
            before = self._count
            self.flush()
            moved = self._count < before
            pause_s = min(PAUSE_MOST_S, max(_FIRST_PAUSE_S, 0.0 if moved else 2 * pause_s))


def _subject(command: Postable) -> str | None:
    """Return what a command is about, if the order of such commands counts."""
    if isinstance(command, (Settle, Void)):
        return command.hold_id
    return f"score of {command.agent}" if isinstance(command, Confidence) else None


def _tokens(command: Postable) -> int:
    """Return what a command would post."""
    return getattr(command, "amount", 0)


def _for_now(kept: Kept) -> Reply:
    """Return what is said of a command that waits: `seq` is 0, as no entry has that number."""
    command = kept.command
    if isinstance(command, (Settle, Charge)):
        return Posted(command.agent, command.amount, 0, (), 0)
    return Done(0, 0)


def _said(kept: Kept, unit: str) -> str:
    """Name a command in a log: whose it is and how much."""
    agent = getattr(kept.command, "agent", None)
    of_agent = "" if agent is None else f" of agent {agent!r}"
    return f"{type(kept.command).__name__}({amount_said(_tokens(kept.command), unit)}){of_agent}"


@atexit.register
def _at_exit() -> None:
    for backlog in list(_backlogs):
        backlog.end()


def _after_fork() -> None:
    for backlog in list(_backlogs):
        backlog.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
