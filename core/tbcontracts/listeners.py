"""Listeners: told of journal entries after the fact, on a thread of their own.

They can neither break nor delay a call: an error of a listener is logged, and one that falls too
far behind loses entries, which are counted. A listener with the methods of `AtCall` is also told
where the call is made, at once: only there its trace is known.

The thread keeps nobody alive: what waits for it refers to the listeners, and so they live until
they have heard it; while nothing waits, it refers to nothing. It ends with the listeners.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from tbcontracts.events import JournalEntry

if TYPE_CHECKING:
    from tbcontracts.errors import BudgetExceededError

Listener = Callable[[str, JournalEntry], object]
"""Called with the scope and the entry."""


class AtCall(Protocol):
    """What a listener may have beside: told on the caller's thread, and to return at once."""

    def at_call(self, scope: str, entries: tuple[JournalEntry, ...]) -> None:
        """Hear what a command wrote, before its caller goes on."""
        ...

    def at_refusal(self, refusal: BudgetExceededError) -> None:
        """Hear of each refusal, before it is raised; the journal does not repeat equal ones."""
        ...


WAITING_MAX = 10_000
_EXIT_WAIT_S = 2.0
_BEHIND = (
    "Listeners are too slow: they lose entries, the first of scope %r. The books are not touched; "
    "manager.listener_entries_dropped counts. What helps: a listener that hands its work on."
)
_UNHEARD = (
    "The process ends before listeners heard all: about %d entries were not told. The books of a "
    "file or server have them. What helps: a faster listener, or manager.flush_listeners() before."
)
_log = logging.getLogger("tbcontracts")
_all: weakref.WeakSet[Listeners] = weakref.WeakSet()
_all_lock = threading.RLock()  # a finalizer may come back here on the same thread


class Listeners:
    """The listeners of a manager, and the thread that tells them."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._at_call: tuple[AtCall, ...] = ()
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Entries that were not told because listeners fell behind."""
        # The None ends the thread. Nothing of this at exit: what waits then is still to be heard.
        weakref.finalize(self, self._waiting.put, None).atexit = False

    def __bool__(self) -> bool:
        """Return whether anybody listens."""
        return bool(self._listeners)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; returns a function that takes it away again.

        Raises:
            TypeError: It cannot be called, or would have to be awaited.
        """
        if not callable(listener):
            msg = (
                "A listener must be a function of the scope and the journal entry, not "
                f"{type(listener).__name__}."
            )
            raise TypeError(msg)
        check_plain(listener, "A listener")
        with self._lock:
            self._listeners = (*self._listeners, listener)
            self._at_call = _at_call(self._listeners)
        with _all_lock:
            _all.add(self)

        def remove() -> None:
            with self._lock:
                kept = list(self._listeners)
                if listener in kept:
                    kept.remove(listener)
                self._listeners = tuple(kept)
                self._at_call = _at_call(self._listeners)

        return remove

    def tell(self, scope: str, entries: tuple[JournalEntry, ...]) -> None:
        """Pass entries on; returns at once."""
        for listener in self._at_call:
            _at_once(listener.at_call, scope, entries)
        if self._waiting.qsize() > WAITING_MAX:
            if not self.dropped:
                _log.warning(_BEHIND, scope)
            self.dropped += len(entries)
            return
        for entry in entries:
            self._waiting.put((self, scope, entry))
        if self._thread is None or not self._thread.is_alive():
            self._start()

    @property
    def waiting(self) -> int:
        """About how many entries wait to be heard, without the one that is being heard."""
        return self._waiting.qsize()

    def refused(self, refusal: BudgetExceededError) -> None:
        """Tell of a refusal where it is raised."""
        for listener in self._at_call:
            _at_once(listener.at_refusal, refusal)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was told so far has been heard; return whether it was."""
        if self._thread is None:
            return True
        if threading.current_thread() is self._thread:
            return False  # a listener would wait for itself
        heard = threading.Event()
        self._waiting.put(heard)
        self._start()
        return heard.wait(timeout_s)

    def _start(self) -> None:
        """Start the thread, anew in a forked child."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=_run, args=(self._waiting,), name="tbcontracts-listeners", daemon=True
                )
                self._thread.start()

    def hear(self, scope: str, entry: JournalEntry) -> None:
        """Tell every listener of an entry, one after the other."""
        for listener in self._listeners:
            _tell_one(listener, scope, entry)


_Waiting = tuple[Listeners, str, JournalEntry] | threading.Event | None
"""An entry and who is to hear it; a request to say that all before it was heard; the end."""


def check_plain(function: Callable[..., object], what: str) -> None:
    """Check that a function is run by calling it.

    Raises:
        TypeError: It has to be awaited, and nobody would.
    """
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object with `async __call__`
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        msg = (
            f"{what} is called on a thread without an event loop and cannot be async. What helps: "
            "a plain function, which may use asyncio.run_coroutine_threadsafe(...)."
        )
        raise TypeError(msg)


def _run(waiting: queue.SimpleQueue[_Waiting]) -> None:
    """Pass on what waits, until the end comes; in between, no variable here refers to any of it."""
    while _passed_on(waiting.get()):
        pass


def _passed_on(item: _Waiting) -> bool:
    """Pass one item on; return False for the end."""
    if item is None:
        return False
    if isinstance(item, threading.Event):
        item.set()
    else:
        listeners, scope, entry = item
        listeners.hear(scope, entry)
    return True


def _at_call(listeners: tuple[Listener, ...]) -> tuple[AtCall, ...]:
    """Return those that are told at the call too."""
    return tuple(cast("AtCall", one) for one in listeners if hasattr(one, "at_call"))


def _at_once(tell: Callable[..., None], *what: object) -> None:
    """Tell one listener at the call; what fails in it is its own business."""
    try:
        tell(*what)
    except Exception:
        _log.exception("A listener failed where a call was made.")


def _tell_one(listener: Listener, scope: str, entry: JournalEntry) -> None:
    """Tell one listener; it may fail in any way, and the books go on."""
    try:
        listener(scope, entry)
    except BaseException:  # SystemExit too: it would end the thread that all listeners share
        _log.exception("A listener failed on entry %d of scope %r.", entry.seq, scope)


@atexit.register
def _flush_all() -> None:
    """Give listeners a moment to hear what waits when the process ends."""
    until = time.monotonic() + _EXIT_WAIT_S
    with _all_lock:
        living = list(_all)
    for listeners in living:
        if listeners.flush(max(0.0, until - time.monotonic())):
            continue
        unheard = listeners.waiting - 1  # without the question whether all was heard
        if unheard > 0:
            _log.warning(_UNHEARD, unheard)
