"""Holds on books that outlive the process have short limits, put off while their owner lives.

One thread for each manager extends its open holds, each at a third of its limit. A process that
dies stops doing so, and its holds stop blocking budget when their limit has passed. A hold that
nobody refers to any more has lost its owner too.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.commands import Extend
from tbcontracts.errors import HoldResolvedError, TBCError

if TYPE_CHECKING:
    from tbcontracts.hold import Hold

TTL_S = 600.0
"""The limit of a hold whose owner is watched."""
MAX_CALL_S = 1_800.0
"""The longest that a call may take; after that its hold is no longer extended."""

_log = logging.getLogger("tbcontracts")


class _Watched(NamedTuple):
    """A hold that is extended."""

    hold: weakref.ref[Hold]
    scope: str
    hold_id: str
    since: float
    due: float


class Heartbeat:
    """Extends the open holds of a manager.

    Args:
        extend: Carries out an extension on the books of a scope.
        now: Returns seconds on a clock of this process that never runs backwards.
    """

    def __init__(
        self,
        extend: Callable[[str, Extend], object],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._extend = extend
        self._now = now
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing to extend; a forked child owns none of its parent's holds."""
        self._pid = os.getpid()
        self._watched: list[_Watched] = []  # in the order of when they are due
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, hold: Hold) -> None:
        """Extend a hold from now on, until it is ended, forgotten, or older than any call."""
        if self._pid != os.getpid():
            self._begin()
        now = self._now()
        with self._changed:
            self._watched.append(
                _Watched(weakref.ref(hold), hold.scope, hold.hold_id, now, now + TTL_S / 3)
            )
            self._see_to_it()

    def _see_to_it(self) -> None:
        """Have the thread look at what is due next; it is started by the first hold."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="tbcontracts-heartbeat", daemon=True
            )
            self._thread.start()
        self._changed.notify()

    def beat(self) -> int:
        """Extend what is due now; return how many holds were extended."""
        now = self._now()
        with self._changed:
            due = [one for one in self._watched if one.due <= now]
            self._watched = [one for one in self._watched if one.due > now]
        extended = [one for one in due if self._is_owned(one, now) and self._extended(one)]
        with self._changed:
            self._watched.extend(one._replace(due=now + TTL_S / 3) for one in extended)
        return len(extended)

    def _is_owned(self, one: _Watched, now: float) -> bool:
        hold = one.hold()
        return hold is not None and not hold.resolved and now - one.since < MAX_CALL_S

    def _extended(self, one: _Watched) -> bool:
        """Extend a hold; return whether it is to be extended again."""
        try:
            self._extend(one.scope, Extend(one.hold_id, TTL_S))
        except HoldResolvedError:
            return False  # it ended while we looked
        except TBCError:
            _log.exception("A hold could not be extended; it is tried again before its limit.")
        return True

    def _run(self) -> None:
        """Beat for as long as there is something to extend."""
        while True:
            with self._changed:
                if not self._watched:
                    self._thread = None
                    return
                wait_s = self._watched[0].due - self._now()
                if wait_s > 0:
                    self._changed.wait(wait_s)
            self.beat()
