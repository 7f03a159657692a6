"""Books that outlive the process: contracts that differ, holds whose owner lives or has died."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from tbcontracts import (
    BudgetExceededError,
    BudgetManager,
    ContractConflictError,
    Hold,
    StoreError,
)
from tbcontracts.commands import Extend
from tbcontracts.errors import HoldResolvedError
from tbcontracts.heartbeat import MAX_CALL_S, TTL_S, Heartbeat


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/budget.db"


def manager_on(url: str, max_tokens: int = 1_000, **settings: Any) -> BudgetManager:
    """Return a manager with one agent, as a process that was just started has it."""
    manager = BudgetManager(store=url, **settings)
    manager.register_agent("writer", priority=2, max_tokens=max_tokens)
    return manager


# --- contracts ------------------------------------------------------------------------------------


def test_another_process_continues_the_books(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What was spent stays spent; that the books are continued is said once."""
    with manager_on(url).reserve("writer", 400) as hold:
        hold.settle(300)
    caplog.set_level(logging.INFO, "tbcontracts")
    after = manager_on(url)
    assert after.remaining("writer") == 700
    assert after.remaining("writer") == 700
    told = [record.getMessage() for record in caplog.records]
    assert told == ["Scope 'default' continues books of 3 entries."]


def test_a_changed_contract_is_kept_and_said(url: str) -> None:
    """By default the scope keeps the contract it was opened with; one warning shows both."""
    manager_on(url).remaining("writer")
    after = manager_on(url, 5_000)
    both = r"max_tokens 1,000, .* there, .*max_tokens 5,000.*change_contract\('writer', \.\.\.\)"
    with pytest.warns(UserWarning, match=both) as said:
        assert [after.remaining("writer") for _ in range(2)] == [1_000, 1_000]
    assert len(said) == 1
    assert after.scope("another").remaining("writer") == 5_000  # opened by this process


def test_a_changed_contract_is_applied(url: str) -> None:
    """With "apply" what is allocated moves by the difference, once for all processes."""
    with manager_on(url).reserve("writer", 400) as hold:
        hold.settle(300)
    for _ in range(2):
        after = manager_on(url, 5_000, on_contract_change="apply")
        assert after.remaining("writer") == 4_700
    kinds = [entry.kind for entry in after.journal()]
    assert kinds.count("contract_changed") == 1


def test_a_changed_contract_raises(url: str) -> None:
    """With "raise" the first command fails, names both contracts, and changes nothing."""
    manager_on(url).remaining("writer")
    after = manager_on(url, 5_000, on_contract_change="raise")
    with pytest.raises(ContractConflictError, match=r"max_tokens 1,000.*max_tokens 5,000"):
        after.reserve("writer", 10)
    assert [entry.kind for entry in manager_on(url).journal()] == ["opened"]


def test_what_the_books_do_not_act_on_is_no_difference(url: str) -> None:
    """Two processes may handle the end of a budget in different ways."""
    manager_on(url).remaining("writer")
    after = BudgetManager(store=url)
    after.register_agent("writer", priority=2, max_tokens=1_000, on_exceeded={"fallback": print})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert after.remaining("writer") == 1_000


# --- holds and their owners -----------------------------------------------------------------------


class Times:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


class ByHand(Heartbeat):
    """A heartbeat without a thread: a test says when it beats."""

    def _see_to_it(self) -> None:
        """Leave it to the test."""


class Extended:
    """Hears what a heartbeat extends."""

    def __init__(self) -> None:
        self.times = Times()
        self.told: list[tuple[str, Extend]] = []
        self.error: Exception | None = None
        self.heartbeat = ByHand(self._extend, now=self.times)

    def _extend(self, scope: str, command: Extend) -> None:
        self.told.append((scope, command))
        if self.error is not None:
            raise self.error

    def at(self, now_s: float) -> int:
        """Beat at a time; return how many holds were extended."""
        self.times.now_s = now_s
        return self.heartbeat.beat()


@pytest.fixture
def hold() -> Hold:
    """Return an open hold."""
    return manager_on("memory://").reserve("writer", 100)


def test_a_hold_is_extended_at_each_third_until_it_ends(hold: Hold) -> None:
    """Not before the third, then each third; never again once it is ended."""
    heard = Extended()
    heard.heartbeat.watch(hold)
    assert [heard.at(at) for at in (0, TTL_S / 3 - 1, TTL_S / 3, TTL_S / 2)] == [0, 0, 1, 0]
    assert heard.told == [("default", Extend(hold.hold_id, TTL_S))]
    assert heard.at(TTL_S) == 1
    hold.settle(10)
    assert heard.at(2 * TTL_S) == 0


def test_a_thread_beats_while_there_is_something_to_extend(
    hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread extends what is due, ends when nothing is left, and comes back for the next."""
    monkeypatch.setattr("tbcontracts.heartbeat.TTL_S", 0.0)
    beaten = threading.Event()

    def extend(_scope: str, _command: Extend) -> None:
        beaten.set()
        raise HoldResolvedError("ended")

    heartbeat = Heartbeat(extend)
    for _ in range(2):
        heartbeat.watch(hold)
        assert beaten.wait(60)
        thread = heartbeat._thread
        if thread is not None:
            thread.join(60)
        assert heartbeat._thread is None
        beaten.clear()


def test_no_call_lives_for_ever(hold: Hold) -> None:
    """A hold older than any call is left to its limit."""
    heard = Extended()
    heard.heartbeat.watch(hold)
    assert heard.at(MAX_CALL_S - 1) == 1
    assert heard.at(MAX_CALL_S + TTL_S) == 0


def test_a_forgotten_hold_has_no_owner() -> None:
    """A hold that nobody refers to is not extended."""
    heard = Extended()
    heard.heartbeat.watch(manager_on("memory://").reserve("writer", 100))
    gc.collect()
    assert heard.at(TTL_S / 2) == 0


def test_trouble_is_tried_again_and_an_ended_hold_is_not(
    hold: Hold, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that does not answer is asked again; a hold that ended meanwhile is dropped."""
    heard = Extended()
    heard.heartbeat.watch(hold)
    heard.error = StoreError("down")
    assert heard.at(TTL_S / 3) == 1
    assert "tried again" in caplog.text
    heard.error = HoldResolvedError("ended")
    assert heard.at(2 * TTL_S / 3) == 0
    heard.error = None
    assert heard.at(TTL_S) == 0


def test_limits_on_durable_books_are_short_and_watched(url: str) -> None:
    """Ten minutes, put off, on durable books; the longest call in memory; or what was said."""
    now = 0.0
    for store, ttl_s in ((url, TTL_S), ("memory://", MAX_CALL_S)):
        manager = manager_on(store, clock=lambda: now)
        held = manager.reserve("writer", 10)
        assert held.expires_at == ttl_s
        assert manager.reserve("writer", 10, ttl_s=7).expires_at == 7
        watched = manager._engine.heartbeat._watched
        assert [one.hold_id for one in watched] == ([held.hold_id] if store == url else [])
        held.void()


def _hold_and_die(url: str) -> None:
    """Hold, and be killed before the hold is ended."""
    manager_on(url).reserve("writer", 900)
    os.kill(os.getpid(), signal.SIGKILL)


def _reserve_in_child(manager: BudgetManager, answer: Any) -> None:
    """Use a manager that the parent had in use."""
    try:
        manager.reserve("writer", 400).settle(300)
        answer.put(manager.remaining("writer"))
    except BaseException as error:
        answer.put(repr(error))


def test_a_forked_child_has_the_same_books(url: str) -> None:
    """Parent and child go on with one manager: one ledger, connections of their own."""
    manager = manager_on(url)
    held = manager.reserve("writer", 100)
    forked = multiprocessing.get_context("fork")
    answer = forked.Queue()
    process = forked.Process(target=_reserve_in_child, args=(manager, answer))
    process.start()
    assert answer.get(timeout=60) == 600
    process.join(60)
    held.settle(50)
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (350, 0)


def test_the_hold_of_a_killed_process_stops_blocking(url: str) -> None:
    """A worker killed between hold and settlement leaks nothing: its hold ends at its limit."""
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(url,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    manager = manager_on(url)
    assert manager.accounts()["writer"].held == 900
    with pytest.raises(BudgetExceededError):
        manager.reserve("writer", 900)
    later = manager.journal()[-1].at + TTL_S
    after = manager_on(url, clock=lambda: later)
    after.reserve("writer", 900).settle(800)
    account = after.accounts()["writer"]
    assert (account.consumed, account.held, account.expired_holds) == (800, 0, 1)
