"""Times in which the store does not answer: said once when they begin, and once when they end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone

from tbcontracts.money import plural

_log = logging.getLogger("tbcontracts")


class Outages:
    """Keeps count of one manager's outages.

    Args:
        now: Returns seconds since the epoch.
        without_it: What becomes of calls meanwhile, for the log.

    Attributes:
        since: When the present one began, in seconds since the epoch; None if the store answers.
        unheld: How many calls went out without a hold, in all of them.
    """

    def __init__(self, now: Callable[[], float], without_it: str) -> None:
        self._now = now
        self._without_it = without_it
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._unheld_now = 0
        self.since: float | None = None
        self.unheld = 0

    def noticed(self, error: Exception, *, unheld: bool = False) -> None:
        """Note that the store did not answer.

        Args:
            error: What it, or its client, said.
            unheld: Whether a call goes out without a hold for it.
        """
        with self._lock:
            begins = self.since is None
            if self.since is None:
                self.since, self._unheld_now = self._now(), 0
            self.unheld += unheld
            self._unheld_now += unheld
        if begins:
            _log.warning("The store does not answer: %s %s", error, self._without_it)

    def over(self) -> None:
        """Note that the store answered."""
        with self._lock:
            since, self.since = self.since, None
            unheld, for_s = self._unheld_now, self._now() - (since or 0)
        if since is not None:
            _log.warning(
                "The store answers again. It did not since %s, for %.0f s; %s went out unheld.",
                said_time(since),
                for_s,
                plural(unheld, "call"),
            )


def said_time(at_s: float) -> str:
    """Return a moment, in seconds since the epoch, as text."""
    return datetime.fromtimestamp(at_s, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
