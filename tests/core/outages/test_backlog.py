"""The backlog: what is kept for a store that is down, in order, and how often it is tried."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.core.outages.conftest import manager_on

from tbcontracts import StoreError
from tbcontracts.backlog import KEPT_MOST, PAUSE_MOST_S, Backlog
from tbcontracts.commands import Charge, Posted
from tbcontracts.errors import HoldResolvedError
from tbcontracts.kept import Kept
from tbcontracts.testing.unreliable_store import UnreliableStore


def test_while_the_store_is_down_nobody_waits_for_it_in_vain(store: UnreliableStore) -> None:
    """The first end finds out; later ones go behind it, and do not ask."""
    manager = manager_on(store)
    holds = [manager.reserve("writer", 10) for _ in range(5)]
    pauses = _Pauses()
    manager._engine.backlog._pause = pauses
    store.down = True
    holds[0].settle(1)
    assert pauses.entered.wait(60)  # the thread tried once, and waits
    asked = store.asked
    for hold in holds[1:]:
        hold.settle(1)
    assert store.asked == asked
    store.down = False
    assert manager.flush()
    assert manager.report()["writer"]["consumed"] == 5


def test_the_first_answer_wakes_the_backlog() -> None:
    """A hold that is granted proves that the store is back: what waits is posted then."""
    store = UnreliableStore()
    manager = manager_on(store)
    hold = manager.reserve("writer", 10)
    pauses = _Pauses()
    manager._engine.backlog._pause = pauses
    store.down = True
    hold.settle(4)
    assert pauses.entered.wait(60)  # the thread tried once, and waits
    store.down = False
    assert manager.unposted.waiting == 1
    manager.reserve("critic", 10)
    thread = manager._engine.backlog._thread
    if thread is not None:
        thread.join(60)
    assert manager.unposted.waiting == 0
    assert manager.report()["writer"]["consumed"] == 4


class _Pauses:
    """Pauses that only end when the backlog is woken."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    def __call__(self, pause_s: float, woken: threading.Event) -> None:
        self.entered.set()
        woken.wait(60)


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    gate = threading.Event()
    while not condition():
        gate.wait(0.001)


class Books:
    """What a backlog posts to."""

    def __init__(self) -> None:
        self.failures = 0
        self.posted: list[tuple[str, int]] = []
        self.sent = 0

    def send(self, kept: Kept) -> Posted:
        """Fail as often as is left to fail, then post."""
        self.sent += 1
        if self.failures:
            self.failures -= 1
            msg = "down"
            raise StoreError(msg)
        assert isinstance(kept.command, Charge)
        self.posted.append((kept.scope, kept.command.amount))
        return Posted(kept.command.agent, kept.command.amount, 0, (), len(self.posted))


def keep(backlog: Backlog, scope: str, *amounts: int) -> None:
    """Keep charges."""
    for amount in amounts:
        backlog.keep(backlog.note(scope, Charge("writer", amount, key=f"{amount}"), None))


def test_attempts_come_less_and_less_often() -> None:
    """At once, then after half a second, doubling up to half a minute; then all goes at once."""
    books = Books()
    books.failures = 10
    seconds: list[float] = []
    backlog = Backlog(books.send, pause=lambda s, _: seconds.append(s))
    keep(backlog, "a", 1)
    _until(lambda: not len(backlog))
    assert seconds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert max(seconds) == PAUSE_MOST_S
    assert books.posted == [("a", 1)]


def test_each_scope_keeps_its_order_and_none_waits_for_another() -> None:
    """A scope whose books do not answer does not hold up the others."""
    books = Books()

    def send(kept: Kept) -> Posted:
        if kept.scope == "broken":
            msg = "down"
            raise StoreError(msg)
        return books.send(kept)

    backlog = Backlog(send, pause=_Pauses())
    backlog._thread = threading.current_thread()  # this test is the thread
    keep(backlog, "broken", 1, 2)
    keep(backlog, "a", 3, 4)
    keep(backlog, "b", 5)
    assert not backlog.flush()
    assert books.posted == [("a", 3), ("a", 4), ("b", 5)]
    assert len(backlog) == 2


def test_a_dead_store_is_not_asked_for_each_of_a_thousand_scopes() -> None:
    """Three scopes in a row that fail are enough to know."""
    books = Books()
    books.failures = 10_000
    backlog = Backlog(books.send, pause=_Pauses())
    backlog._thread = threading.current_thread()
    for number in range(1_000):
        keep(backlog, f"run-{number}", 1)
    assert not backlog.flush()
    assert books.sent == 3


def test_what_the_books_refuse_is_counted_and_does_not_stand_in_the_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hold that somebody else ended otherwise meanwhile: nothing is posted, the rest is."""
    books = Books()

    def send(kept: Kept) -> Posted:
        if kept.command.amount == 1:  # type: ignore[union-attr]
            msg = "ended before"
            raise HoldResolvedError(msg)
        return books.send(kept)

    backlog = Backlog(send, pause=_Pauses())
    backlog._thread = threading.current_thread()
    keep(backlog, "a", 1, 2)
    assert backlog.flush()
    assert books.posted == [("a", 2)]
    assert backlog.view(0).refused == 1
    assert "did not take Charge(1 token) of agent 'writer'" in caplog.text


def test_too_much_is_said_and_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backlog is bounded; what it cannot keep is an error that names it."""
    assert KEPT_MOST == 100_000
    monkeypatch.setattr("tbcontracts.backlog.KEPT_MOST", 2)
    backlog = Backlog(Books().send, pause=_Pauses())
    backlog._thread = threading.current_thread()
    keep(backlog, "a", 1, 2)
    with pytest.raises(StoreError, match=r"Not kept: Charge\(3 tokens\) of agent 'writer'"):
        keep(backlog, "a", 3)


def test_what_is_lost_with_the_process_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """At the end of the process it is tried once more; how much is lost stands in the log."""
    books = Books()
    books.failures = 1
    backlog = Backlog(books.send, pause=_Pauses())
    backlog._thread = threading.current_thread()
    keep(backlog, "a", 10, 20)
    backlog.end()
    assert "2 settlements and charges of 30 tokens are not posted. They are lost" in caplog.text
    backlog.end()
    assert books.posted == [("a", 10), ("a", 20)]
