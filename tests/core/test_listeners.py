"""Listeners hear everything after the fact, and can neither break nor delay a call."""

from __future__ import annotations

import logging
import threading

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


def test_one_that_hangs_delays_no_call() -> None:
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
    dropped = manager._engine.listeners.dropped
    go_on.set()
    assert manager.flush_listeners(30)
    assert 0 < dropped <= 100


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
