"""Listeners: told of journal entries after the fact, on a thread of their own.

They can neither break nor delay a call: an error of a listener is logged, and one that falls too
far behind loses entries, which are counted.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections.abc import Callable

from tbcontracts.events import JournalEntry

Listener = Callable[[str, JournalEntry], object]
"""Called with the scope and the entry."""

WAITING_MAX = 10_000
_EXIT_WAIT_S = 2.0
_log = logging.getLogger("tbcontracts")


class Listeners:
    """The listeners of a manager, and the thread that tells them."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._waiting: queue.SimpleQueue[tuple[str, JournalEntry] | threading.Event] = (
            queue.SimpleQueue()
        )
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Entries that were not told because listeners fell behind."""

    def __bool__(self) -> bool:
        """Return whether anybody listens."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns a function that takes it away again.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(listener):
            msg = (
                "A listener must be a function of the scope and the journal entry, not "
                f"{type(listener).__name__}."
            )
            raise TypeError(msg)
        with self._lock:
            self._listeners = (*self._listeners, listener)
            if len(self._listeners) == 1:
                atexit.register(self.flush, _EXIT_WAIT_S)

        def remove() -> None:
            with self._lock:
                kept = list(self._listeners)
                if listener in kept:
                    kept.remove(listener)
                self._listeners = tuple(kept)

        return remove

    def tell(self, scope: str, entries: tuple[JournalEntry, ...]) -> None:
        """Pass entries on; returns at once."""
        if self._waiting.qsize() > WAITING_MAX:
            self.dropped += len(entries)
            return
        for entry in entries:
            self._waiting.put((scope, entry))
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was told so far has been heard; return whether it was."""
        if self._thread is None:
            return True
        heard = threading.Event()
        self._waiting.put(heard)
        self._start()
        return heard.wait(timeout_s)

    def _start(self) -> None:
        """Start the thread, anew in a forked child."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="tbcontracts-listeners", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        """Tell the listeners, one entry after the other, for as long as the process lives."""
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            for listener in self._listeners:
                _tell_one(listener, *item)


def _tell_one(listener: Listener, scope: str, entry: JournalEntry) -> None:
    """Tell one listener; it may fail in any way, and the books go on."""
    try:
        listener(scope, entry)
    except BaseException:  # SystemExit too: it would end the thread that all listeners share
        _log.exception("A listener failed on entry %d of scope %r.", entry.seq, scope)
