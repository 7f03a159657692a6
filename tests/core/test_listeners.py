"""Listeners hear everything after the fact, and can neither break nor delay a call."""

from __future__ import annotations

import atexit
import gc
import logging
import subprocess
import sys
import threading
import weakref
from functools import partial

import pytest

from tbcontracts import BudgetManager
from tbcontracts.events import JournalEntry
from tbcontracts.listeners import WAITING_MAX


def manager_with(listener: object = None) -> BudgetManager:
    """Return a manager with one agent, and maybe a listener from the start."""
    manager = BudgetManager(telemetry=listener)  # type: ignore[arg-type]
    manager.register_agent("a", max_tokens=10_000_000)
    return manager


def test_telemetry_is_a_listener_from_the_start() -> None:
    """It hears each entry of every scope, in order, just as the journal has it."""
    heard: list[tuple[str, JournalEntry]] = []
    manager = manager_with(lambda scope, entry: heard.append((scope, entry)))
    manager.reserve("a", 100).settle(70)
    manager.scope("run").record_usage("a", 5)
    assert manager.flush_listeners(10)
    here = [("default", entry) for entry in manager.journal()]
    there = [("run", entry) for entry in manager.scope("run").journal()]
    assert heard == here + there


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_one_that_fails_breaks_nothing(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises is logged; calls, books and other listeners go on."""
    heard: list[int] = []

    def fails(scope: str, entry: JournalEntry) -> None:
        raise error

    manager = manager_with(fails)
    manager.add_listener(lambda scope, entry: heard.append(entry.seq))
    with caplog.at_level(logging.ERROR, "tbcontracts"):
        manager.reserve("a", 100).settle(70)
        assert manager.flush_listeners(10)
    assert heard == [1, 2, 3]
    assert len(caplog.records) == 3
    assert manager.remaining("a") == 10_000_000 - 70


def test_one_that_hangs_delays_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """Calls go on while it hangs; what it is too slow for is dropped, and counted."""
    hanging, go_on = threading.Event(), threading.Event()

    def hangs(scope: str, entry: JournalEntry) -> None:
        hanging.set()
        go_on.wait()

    manager = manager_with(hangs)
    manager.record_usage("a", 1)
    assert hanging.wait(10)
    charges = WAITING_MAX + 100
    for _ in range(charges):
        manager.record_usage("a", 1)
    assert manager.accounts()["a"].consumed == charges + 1
    assert not manager.flush_listeners(0)
    dropped = manager.listener_entries_dropped
    go_on.set()
    assert manager.flush_listeners(30)
    assert 0 < dropped <= 100
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1  # when it began, and not for each entry
    assert "'default'" in told[0]
    assert "listener_entries_dropped" in told[0]


def test_one_may_ask_and_charge_the_manager_itself() -> None:
    """No lock is held while it is told."""
    manager = manager_with()
    seen: list[int] = []

    def asks(scope: str, entry: JournalEntry) -> None:
        seen.append(manager.remaining("a"))
        if entry.kind == "charged" and entry.amount == 1:
            manager.record_usage("a", 2)

    manager.add_listener(asks)
    manager.record_usage("a", 1)
    assert manager.flush_listeners(10)
    assert manager.flush_listeners(10)  # what it did itself is told, too
    assert manager.accounts()["a"].consumed == 3
    assert seen[-1] == 10_000_000 - 3


def test_one_that_waits_for_itself_is_not_kept_waiting() -> None:
    """It would hang for good, and the others with it."""
    manager = manager_with()
    waited: list[bool] = []
    manager.add_listener(lambda _scope, _entry: waited.append(manager.flush_listeners(10)))
    manager.record_usage("a", 1)
    assert manager.flush_listeners(5)
    assert waited
    assert not any(waited)


def test_one_that_must_be_awaited_is_refused() -> None:
    """Nobody would await it, and it would never hear anything."""

    async def awaited(*_: object) -> None:
        """Stand for one that sends to somewhere."""

    class Awaited:
        async def __call__(self, *_: object) -> None:
            """Stand for an object that does."""

    manager = BudgetManager(warn_at=[0.8])
    for one in (awaited, Awaited(), partial(awaited)):
        with pytest.raises(TypeError, match=r"A listener .* cannot be async"):
            manager.add_listener(one)
        with pytest.raises(TypeError, match=r"on_threshold .* cannot be async"):
            manager.on_threshold(one)
    with pytest.raises(TypeError, match="cannot be async"):
        BudgetManager(telemetry=awaited)


def test_one_that_was_taken_away_hears_no_more() -> None:
    """Taking it away twice is no error."""
    heard: list[int] = []
    manager = manager_with()
    remove = manager.add_listener(lambda scope, entry: heard.append(entry.seq))
    manager.record_usage("a", 1)
    assert manager.flush_listeners(10)
    remove()
    remove()
    manager.record_usage("a", 1)
    assert manager.flush_listeners(10)
    assert heard == [1, 2]


def listening_threads() -> list[threading.Thread]:
    """Return the threads that tell listeners."""
    return [one for one in threading.enumerate() if one.name == "tbcontracts-listeners"]


def test_managers_that_are_gone_leave_nothing_behind() -> None:
    """No thread, no entry at exit, although the listeners refer to their managers."""
    before, at_exit = listening_threads(), atexit._ncallbacks()

    def told(manager: BudgetManager, scope: str, entry: JournalEntry) -> None:
        manager.remaining("a")

    def used() -> weakref.ref[object]:
        manager = manager_with()
        manager.add_listener(partial(told, manager))
        manager.reserve("a", 10).void()
        assert manager.flush_listeners(10)
        return weakref.ref(manager._engine)

    managers = [used() for _ in range(20)]
    started = [one for one in listening_threads() if one not in before]
    gc.collect()
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)
    assert not any(engine() for engine in managers)
    assert atexit._ncallbacks() == at_exit


def test_what_a_manager_wrote_is_heard_when_it_is_gone() -> None:
    """Entries that wait keep the listeners, and nothing keeps them after that."""
    go_on = threading.Event()
    heard: list[int] = []

    def slow(scope: str, entry: JournalEntry) -> None:
        go_on.wait(10)
        heard.append(entry.seq)

    before = listening_threads()
    manager = manager_with(slow)
    manager.reserve("a", 10).void()
    (thread,) = (one for one in listening_threads() if one not in before)
    del manager
    gc.collect()
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()
    assert heard == [1, 2, 3]


def test_what_waits_at_exit_is_heard() -> None:
    """Also of a manager that is gone by then."""
    script = (
        "from tbcontracts import BudgetManager\n"
        "for name in 'xy':\n"
        # Two threads print: in one piece each, or their lines would mix.
        "    told = lambda scope, e: print(f'{scope} {e.kind}\\n', end='')\n"
        "    m = BudgetManager(scope=name, telemetry=told)\n"
        "    m.register_agent('a')\n"
        "    m.reserve('a', 1).void()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    told = [f"{scope} {kind}" for scope in "xy" for kind in ("opened", "held", "voided")]
    assert sorted(done.stdout.splitlines()) == sorted(told)


def test_what_is_not_heard_at_exit_is_said() -> None:
    """A listener that hangs holds the process up for a moment, and what it missed is counted."""
    script = (
        "import threading\n"
        "from tbcontracts import BudgetManager\n"
        "begun = threading.Event()\n"
        "m = BudgetManager(telemetry=lambda *_: begun.set() or threading.Event().wait())\n"
        "m.register_agent('a')\n"
        "for _ in range(3):\n"
        "    m.record_usage('a', 1)\n"
        "begun.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "about 3 entries were not told" in done.stderr  # of four; the first one hangs
