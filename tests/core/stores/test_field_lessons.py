"""What went wrong with budgets elsewhere, as tests of each store, named after the reports.

Mostly the issues of BerriAI/litellm; then Cycles (runcycles/cycles-protocol) and Limitador
(Kuadrant, RFC 0021).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tbcontracts import BudgetManager
from tbcontracts.books import AccountView
from tbcontracts.commands import (
    Charge,
    Command,
    Denied,
    Extend,
    Granted,
    Open,
    Posted,
    Reply,
    Reserve,
    Settle,
    TopUp,
    Void,
)
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import StoreError
from tbcontracts.stores import open_store
from tbcontracts.stores.base import Store
from tbcontracts.testing.checking import ManualClock

THREADS = 16


class Ledger:
    """A store with one scope and one agent."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock

    def open(self, most: int, scope: str = "s") -> None:
        """Open the agent."""
        self.store.apply(scope, Open((BudgetContract("a", max_tokens=most, min_reserve=0),)))

    def apply(self, command: Command, scope: str = "s") -> Reply:
        """Carry out a command."""
        return self.store.apply(scope, command).reply

    def account(self, scope: str = "s") -> AccountView:
        """Return the agent's account."""
        statement = self.store.read(scope)
        assert statement is not None
        return statement.accounts[0]


@pytest.fixture
def ledger(any_url: str) -> Iterator[Ledger]:
    """Return a ledger in each kind of store."""
    clock = ManualClock()
    store = open_store(any_url, clock=clock)
    yield Ledger(store, clock)
    store.close()


def all_at_once(call: Callable[[int], object]) -> list[object]:
    """Return what 16 threads get that call at the same time."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> object:
        start.wait()
        return call(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def test_litellm_34732_checking_and_counting_are_one_step(ledger: Ledger) -> None:
    """Parallel calls that each fit alone are admitted only as far as they fit together."""
    ledger.open(5_000)
    replies = all_at_once(lambda number: ledger.apply(Reserve("a", 2_000, f"h{number}")))
    assert sum(isinstance(reply, Granted) for reply in replies) == 2
    assert ledger.account().held == 4_000


def test_litellm_35567_no_increment_is_lost(ledger: Ledger) -> None:
    """Charges at the same time all count."""
    ledger.open(5_000)
    all_at_once(lambda _: [ledger.apply(Charge("a", 1)) for _ in range(10)])
    assert ledger.account().consumed == THREADS * 10


def test_litellm_34733_a_new_period_overwrites_nothing(ledger: Ledger) -> None:
    """A call that began in one month is settled in its own, whatever has begun meanwhile."""
    ledger.open(1_000, "acme/2030-01")
    ledger.apply(Reserve("a", 300, "h"), "acme/2030-01")
    ledger.open(1_000, "acme/2030-02")
    ledger.apply(Charge("a", 10), "acme/2030-02")
    ledger.apply(Settle("h", "a", 200), "acme/2030-01")
    assert ledger.account("acme/2030-01").consumed == 200
    assert ledger.account("acme/2030-02").consumed == 10


def test_litellm_28247_whoever_starts_later_adds_nothing(ledger: Ledger) -> None:
    """Each process opens the same contracts; the budget is there once, and in whole numbers."""
    all_at_once(lambda _: ledger.open(1_000))
    ledger.apply(Charge("a", 1))
    all_at_once(lambda _: ledger.open(1_000))
    assert (ledger.account().allocated, ledger.account().consumed) == (1_000, 1)
    with pytest.raises(ValueError, match="whole number"):
        ledger.apply(Charge("a", 0.1))  # type: ignore[arg-type]


def test_litellm_30460_asking_again_does_not_count_again(ledger: Ledger) -> None:
    """A caller that gave up waiting asks again with its key: one hold, one charge."""
    ledger.open(1_000)
    for number in range(5):
        ledger.apply(Reserve("a", 100, f"h{number}", key="call"))
        ledger.apply(Charge("a", 10, key="usage"))
    assert (ledger.account().held, ledger.account().consumed) == (100, 10)


def test_litellm_27639_the_hold_of_a_dead_owner_blocks_nobody_for_long(ledger: Ledger) -> None:
    """When its limit has passed, the next hold ends it, without any job that cleans up."""
    ledger.open(1_000)
    ledger.apply(Reserve("a", 1_000, "leaked", ttl_s=60.0))
    assert isinstance(ledger.apply(Reserve("a", 1_000, "too early")), Denied)
    ledger.clock.advance(60)
    assert isinstance(ledger.apply(Reserve("a", 1_000, "next")), Granted)


def test_litellm_30330_a_hold_is_not_spending(ledger: Ledger) -> None:
    """It stands beside what was consumed, and when it ends by itself nothing was."""
    ledger.open(1_000)
    ledger.apply(Reserve("a", 400, "h", ttl_s=60.0))
    assert (ledger.account().consumed, ledger.account().held) == (0, 400)
    ledger.clock.advance(60)
    ledger.apply(Charge("a", 1))
    ledger.apply(Reserve("a", 999, "all the rest"))
    assert (ledger.account().consumed, ledger.account().held) == (1, 999)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1?deadline_s=0.01",
        "postgresql://127.0.0.1:1/budget?connect_timeout=1",
        "sqlite:///{folder}",
    ],
)
def test_litellm_34429_no_store_no_call(url: str, tmp_path: Path) -> None:
    """Where the books cannot be asked, nothing is admitted."""

    def call() -> None:
        manager = BudgetManager(store=url.format(folder=tmp_path))
        manager.register_agent("a", max_tokens=1_000)
        manager.reserve("a", 1)

    with pytest.raises(StoreError):
        call()


def test_litellm_26845_a_hold_is_never_made_smaller(ledger: Ledger) -> None:
    """What does not fit is refused, not cut down to what is left."""
    ledger.open(50)
    reply = ledger.apply(Reserve("a", 60, "h"))
    assert isinstance(reply, Denied)
    assert (reply.requested, reply.available, ledger.account().held) == (60, 50, 0)


def test_litellm_27020_and_27021_the_last_token_counts(ledger: Ledger) -> None:
    """There is one comparison: what fits exactly is granted, and one token more is not."""
    ledger.open(100)
    assert isinstance(ledger.apply(Reserve("a", 101, "h1")), Denied)
    assert isinstance(ledger.apply(Reserve("a", 100, "h2")), Granted)
    assert isinstance(ledger.apply(Reserve("a", 0, "h3")), Granted)
    assert isinstance(ledger.apply(Reserve("a", 1, "h4")), Denied)


def test_litellm_36459_a_late_owner_ends_only_its_own_hold(ledger: Ledger) -> None:
    """Its hold has expired and another one has the budget: that one stays."""
    ledger.open(100)
    ledger.apply(Reserve("a", 100, "mine", ttl_s=10.0))
    ledger.apply(Reserve("a", 0, "second", ttl_s=10.0))
    ledger.clock.advance(10)
    assert isinstance(ledger.apply(Reserve("a", 100, "theirs")), Granted)
    ledger.apply(Void("mine"))
    ledger.apply(Settle("second", "a", 3))
    assert (ledger.account().held, ledger.account().consumed) == (100, 3)


def test_litellm_37539_each_hold_has_a_limit_of_its_own(ledger: Ledger) -> None:
    """One that is kept alive does not keep another one alive."""
    ledger.open(100)
    ledger.apply(Reserve("a", 60, "leaked", ttl_s=10.0))
    ledger.apply(Reserve("a", 40, "alive", ttl_s=10.0))
    for _ in range(3):
        ledger.clock.advance(9)
        ledger.apply(Extend("alive", 10.0))
    assert isinstance(ledger.apply(Reserve("a", 60, "next")), Granted)
    assert ledger.account().held == 100


def test_cycles_a_commit_after_the_limit_is_posted_once(ledger: Ledger) -> None:
    """Also when it is sent again; it says that it was late."""
    ledger.open(100)
    ledger.apply(Reserve("a", 60, "h", ttl_s=10.0))
    ledger.clock.advance(10)
    ledger.apply(Reserve("a", 100, "next"))
    posted = ledger.apply(Settle("h", "a", 55))
    assert isinstance(posted, Posted)
    assert posted.late
    assert ledger.apply(Settle("h", "a", 55)) == posted
    assert ledger.account().consumed == 55


def test_cycles_large_amounts_keep_every_digit(ledger: Ledger) -> None:
    """Beyond the 14 digits that a common way to write numbers in Lua keeps."""
    most = 2**40
    ledger.open(most)
    for number in range(100):
        ledger.apply(TopUp("a", most, key=f"{number}"))
    ledger.apply(Charge("a", most - 1))
    ledger.apply(Reserve("a", most - 3, "h"))
    account = ledger.account()
    assert account.allocated == 101 * most
    assert account.remaining == 99 * most + 4


def test_limitador_0021_the_real_usage_is_posted_though_the_hold_is_gone(ledger: Ledger) -> None:
    """Books that never heard of the hold take its usage all the same, once."""
    ledger.open(100)
    for _ in range(2):
        ledger.apply(Settle("forgotten", "a", 30))
    assert ledger.account().consumed == 30


def test_limitador_0021_what_was_not_sent_is_free_at_once(ledger: Ledger) -> None:
    """A void does not wait for a limit."""
    ledger.open(100)
    ledger.apply(Reserve("a", 100, "h"))
    ledger.apply(Void("h"))
    assert isinstance(ledger.apply(Reserve("a", 100, "next")), Granted)
