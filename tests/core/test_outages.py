"""The store does not answer: no call goes out, or it goes unheld; what was used is never lost."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tbcontracts import (
    BudgetExceededError,
    BudgetManager,
    Hold,
    OutcomeUnknownError,
    StoreError,
    Usage,
)
from tbcontracts.backlog import KEPT_MOST, PAUSE_MOST_S, Backlog
from tbcontracts.clamping import aoutput_cap, output_cap
from tbcontracts.commands import Charge, Posted, Settle
from tbcontracts.errors import ConfigurationError, HoldResolvedError
from tbcontracts.kept import Kept
from tbcontracts.settings import Settings
from tbcontracts.sizing import CallShape
from tbcontracts.testing.unreliable_store import UnreliableStore
from tbcontracts.tokens import size_request

KINDS = [(True, False), (True, True), (False, True)]
"""As stores say of themselves: in memory, a file, behind a network."""


@pytest.fixture(params=KINDS, ids=["memory", "file", "network"])
def store(request: pytest.FixtureRequest) -> UnreliableStore:
    """Return a store of each kind."""
    in_process, durable = request.param
    return UnreliableStore(in_process=in_process, durable=durable)


def manager_on(store: UnreliableStore, **settings: Any) -> BudgetManager:
    """Return a manager with two agents."""
    manager = BudgetManager(store=store, **settings)
    manager.register_agent("writer", priority=2, max_tokens=1_000)
    manager.register_agent("critic", max_tokens=1_000)
    return manager


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged at level warning, but for the times in it."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


# --- no call goes out -----------------------------------------------------------------------------


def test_no_hold_is_given_while_the_store_is_down(store: UnreliableStore) -> None:
    """The error has the store's words, whether the scope was open before or not."""
    manager = manager_on(store)
    for scope in ("new", "default"):
        store.down = True
        with pytest.raises(StoreError, match=r"cannot be reached\. What helps: plug it in"):
            manager.scope(scope).reserve("writer", 100)
        store.down = False
        manager.report()
    assert manager.reserve("writer", 1_000).moves == ()  # nothing was held by the failed ones


def test_a_governed_function_is_not_called_while_the_store_is_down(store: UnreliableStore) -> None:
    """Plain and awaited functions."""
    manager = manager_on(store)
    called: list[str] = []

    @manager.govern("writer")
    def write() -> None:
        called.append("write")

    @manager.govern("critic")
    async def judge() -> None:
        called.append("judge")

    store.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        write()
    with pytest.raises(StoreError, match="cannot be reached"):
        asyncio.run(judge())
    assert called == []
    store.down = False
    write()
    asyncio.run(judge())
    assert called == ["write", "judge"]


def test_a_parent_gets_its_hold_back_when_the_childs_store_is_down() -> None:
    """And when the parent's goes down, too, it gets it back as soon as it answers."""
    above, below = UnreliableStore(), UnreliableStore()
    parent = manager_on(above)
    child = manager_on(below).within(parent, agent="writer")
    child.report()
    below.down = True
    with pytest.raises(StoreError):
        child.reserve("critic", 300)
    assert parent.accounts()["writer"].held == 0

    def both_down(_: object) -> None:
        above.down = below.down = True
        below.now()

    below.down = False
    below.before = both_down
    with pytest.raises(StoreError):
        child.reserve("critic", 300)
    above.down = False
    assert parent.flush()
    assert parent.accounts()["writer"].held == 0


# --- what was used is kept ------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_ends_are_kept_and_posted_when_the_store_is_back(store: UnreliableStore, door: str) -> None:
    """Settlements, voids and charges: none raises, all are on the books once, in their order."""
    manager = manager_on(store)
    settled, provisional, voided = (manager.reserve("writer", 100) for _ in range(3))
    store.down = True

    async def end_awaited() -> list[Posted]:
        posted = [await settled.asettle(Usage(input_tokens=30, output_tokens=40))]
        posted.append(await provisional.asettle(90, final=False))
        posted.append(await provisional.asettle(80))
        await voided.avoid()
        posted.append(await manager.arecord_usage("writer", 5, "by hand", 0.5))
        return posted

    def end() -> list[Posted]:
        posted = [settled.settle(Usage(input_tokens=30, output_tokens=40))]
        posted.append(provisional.settle(90, final=False))
        posted.append(provisional.settle(80))
        voided.void()
        posted.append(manager.record_usage("writer", 5, "by hand", 0.5))
        return posted

    posted = asyncio.run(end_awaited()) if door == "awaited" else end()
    assert [(one.agent, one.amount, one.seq) for one in posted] == [
        ("writer", amount, 0) for amount in (70, 90, 80, 5)
    ]
    assert settled.resolved
    assert voided.resolved
    waiting = manager.unposted
    assert (waiting.waiting, waiting.tokens, waiting.unheld) == (6, 245, 0)
    assert waiting.since is not None

    store.down = False
    assert asyncio.run(manager.aflush()) if door == "awaited" else manager.flush()
    assert manager.unposted == (0, 0, None, 0, 0, 0)
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held, account.input_tokens) == (155, 0, 30)
    ends = [entry.kind for entry in manager.journal() if entry.kind not in ("opened", "held")]
    assert ends == ["settled", "settled", "settled", "voided", "charged", "confidence"]


@pytest.mark.parametrize("in_process", [True, False])
def test_what_takes_effect_unheard_is_on_the_books_once(in_process: bool) -> None:
    """The answer is lost, the command is sent again: by hold or by key it counts once."""
    store = UnreliableStore(in_process=in_process)
    manager = manager_on(store)
    hold = manager.reserve("writer", 100)
    store.loses_answers = True
    hold.settle(60)
    manager.record_usage("critic", 7)
    store.loses_answers = False
    assert manager.flush()
    assert {name: one.consumed for name, one in manager.accounts().items()} == {
        "critic": 7,
        "writer": 60,
    }
    assert manager.unposted.refused == 0


def test_a_governed_function_keeps_its_result(store: UnreliableStore) -> None:
    """The store goes down during the call: the caller gets the result, the books the usage."""
    manager = manager_on(store)

    @manager.govern("writer", usage_fn=lambda _: 42)
    def write() -> str:
        store.down = True
        return "the answer"

    assert write() == "the answer"
    store.down = False
    assert manager.flush()
    assert manager.report()["writer"]["consumed"] == 42


def test_a_hold_block_keeps_its_error(store: UnreliableStore) -> None:
    """What the block raised leaves it, whatever the store says to the settlement."""
    manager = manager_on(store)

    def fail() -> None:
        store.down = True
        msg = "mine"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="mine"), manager.reserve("writer", 100):
        fail()
    store.down = False
    assert manager.flush()
    assert manager.accounts()["writer"].unmeasured == 100


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


def test_a_cancelled_settlement_is_posted_all_the_same() -> None:
    """The task that settles is cancelled while the store has not answered."""

    class Hangs(UnreliableStore):
        async def aapply(self, scope: str, command: Any) -> Any:
            if isinstance(command, Settle):
                asked.set()
                await asyncio.Event().wait()
            return await super().aapply(scope, command)

    store = Hangs()
    manager = manager_on(store)

    async def main() -> None:
        hold = await manager.areserve("writer", 100)
        task = asyncio.create_task(hold.settle(70))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asked = asyncio.Event()
    asyncio.run(main())
    assert manager.flush()
    assert manager.report()["writer"]["consumed"] == 70


# --- the backlog ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("bad", ["1", True, -1, float("nan")])
def test_a_timeout_is_a_number_of_seconds(bad: Any) -> None:
    """Anything else is refused, at both doors."""
    manager = manager_on(UnreliableStore())
    with pytest.raises((TypeError, ValueError), match="timeout_s"):
        manager.flush(bad)
    with pytest.raises((TypeError, ValueError), match="timeout_s"):
        asyncio.run(manager.aflush(bad))


# --- calls go on ----------------------------------------------------------------------------------


def test_strict_and_allow_exclude_each_other() -> None:
    """A hold is what makes strict mode strict."""
    with pytest.raises(ConfigurationError, match="sends calls without a hold, and strict mode"):
        Settings(enforcement="strict", on_store_error="allow")
    assert Settings(on_store_error="allow").goes_without_store
    assert BudgetManager.from_config({"on_store_error": "allow"}).settings.goes_without_store


@pytest.mark.parametrize("settings", [{"on_store_error": "allow"}, {"enforcement": "observe"}])
@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_calls_go_without_the_store(
    store: UnreliableStore,
    settings: dict[str, str],
    door: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With "allow" and in observe mode; what they used is posted later, and said once each way."""
    manager = manager_on(store, **settings)
    store.down = True

    async def call_awaited() -> None:
        async with await manager.areserve("writer", 600) as hold:
            assert hold.unheld
            await hold.extend(60)
            await hold.settle(600)

    def call() -> None:
        with manager.reserve("writer", 600) as hold:
            assert hold.unheld
            hold.extend(60)
            hold.settle(600)

    for _ in range(4):
        asyncio.run(call_awaited()) if door == "awaited" else call()
    manager.reserve("critic", 100).void()
    assert manager.unposted[:2] == (5, 2_400)
    assert manager.unposted.unheld == 5
    store.down = False
    assert manager.flush()
    account = manager.accounts()["writer"]
    lent = 1_000 - 100  # what the critic could give, but for its reserve
    assert (account.consumed, account.overdraft) == (2_400, 2_400 - 1_000 - lent)
    assert manager.unposted == (0, 0, None, 0, 500, 5)
    printed = io.StringIO()
    manager.print_report(printed)
    assert "5 calls of this process went out without a hold" in printed.getvalue()
    assert "500 tokens that were posted late are not covered" in printed.getvalue()
    began, ended = warnings_in(caplog)
    assert began.startswith("The store does not answer: The store cannot be reached.")
    assert ended.startswith("The store answers again. It did not since ")
    assert ended.endswith("; 5 calls went out unheld.")


def test_holds_from_before_the_outage_stay_valid() -> None:
    """Their settlement replaces them; the unheld call comes on top."""
    store = UnreliableStore()
    manager = manager_on(store, on_store_error="allow")
    before = manager.reserve("writer", 300)
    store.down = True
    during = manager.reserve("writer", 300)
    assert not before.unheld
    watched = [one.hold_id for one in manager._engine.heartbeat._watched]
    assert watched == [before.hold_id]  # nobody prolongs a hold that is none
    before.settle(250)
    during.settle(200)
    store.down = False
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (450, 0)
    late = [
        entry.facts.get("late", False) for entry in manager.journal() if entry.kind == "settled"
    ]
    assert late == [False, True]


def test_a_hold_that_took_effect_unheard_is_the_one_that_is_settled() -> None:
    """With "allow" the call goes on; its settlement finds the hold that nobody knew of."""
    store = UnreliableStore()
    manager = manager_on(store, on_store_error="allow")
    manager.report()
    store.loses_answers = True
    hold = manager.reserve("writer", 300)
    store.loses_answers = False
    assert hold.unheld
    assert manager.accounts()["writer"].held == 300
    hold.settle(120)
    assert manager.flush()
    account = manager.accounts()["writer"]
    assert (account.consumed, account.held) == (120, 0)


def test_a_month_is_known_without_the_store() -> None:
    """A scope's name may need the store's time; a call that goes without it takes its own."""
    store = UnreliableStore()
    settings: dict[str, Any] = {"scope": "acme/{utc:%Y-%m}", "clock": lambda: 0.0}
    store.down = True
    with pytest.raises(StoreError):
        manager_on(store, **settings).reserve("writer", 10)
    manager = manager_on(store, on_store_error="allow", **settings)
    hold = manager.reserve("writer", 10)
    assert hold.scope == "acme/1970-01"
    hold.settle(10)
    store.down = False
    assert manager.flush()
    assert manager.scope("acme/1970-01").report()["writer"]["consumed"] == 10


def test_an_unknown_agent_is_still_the_programmers_mistake() -> None:
    """Neither mode lets it through."""
    manager = manager_on(UnreliableStore(), on_store_error="allow")
    with pytest.raises(KeyError):
        manager.reserve("nobody", 10)


@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_a_refusal_that_needs_no_books_stays_one(door: str) -> None:
    """A name without a contract is refused with "allow", too, in the words that it always has."""
    store = UnreliableStore()
    shape = CallShape(size_request(["hello"]))

    def begin(manager: BudgetManager) -> object:
        if door == "awaited":
            return asyncio.run(manager.abegin_call("nobody", shape))
        return manager.begin_call("nobody", shape)

    store.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        begin(manager_on(store, unattributed="deny"))
    with pytest.raises(BudgetExceededError, match="nobody") as caught:
        begin(manager_on(store, unattributed="deny", on_store_error="allow"))
    assert caught.value.code == "unattributed"


def test_output_caps_are_left_alone_where_calls_go_on() -> None:
    """What is left is not known, so nothing is lowered; else the call is not sent."""
    store = UnreliableStore()
    shape = CallShape(size_request(["hello"]), output_cap=5_000)
    denying, allowing = manager_on(store), manager_on(store, on_store_error="allow")
    assert output_cap(allowing, "writer", shape) == output_cap(denying, "writer", shape) != 5_000
    store.down = True
    with pytest.raises(StoreError):
        output_cap(denying, "writer", shape)
    with pytest.raises(StoreError):
        asyncio.run(aoutput_cap(denying, "writer", shape))
    assert output_cap(allowing, "writer", shape) is None
    assert asyncio.run(aoutput_cap(allowing, "writer", shape)) is None


# --- whether it took effect is not known ----------------------------------------------------------


@pytest.mark.parametrize("key", [None, "job-17"])
@pytest.mark.parametrize("door", ["plain", "awaited"])
def test_an_unknown_hold_is_found_by_the_key_of_the_error(key: str | None, door: str) -> None:
    """`resolve` says what came of it, and asking again with that key returns that hold, once."""
    store = UnreliableStore()
    manager = manager_on(store)
    manager.report()
    store.loses_answers = True

    def ask() -> object:
        if door == "awaited":
            return asyncio.run(manager.areserve("writer", 300, key=key))
        return manager.reserve("writer", 300, key=key)

    with pytest.raises(OutcomeUnknownError, match=r"manager.resolve\('") as caught:
        ask()
    store.loses_answers = False
    named = caught.value.key
    assert key in (None, named)
    granted = manager.resolve(named)
    assert granted is not None
    assert granted.agent == "writer"  # type: ignore[union-attr]
    hold: Hold = manager.reserve("writer", 300, key=named)
    assert hold.hold_id == granted.hold_id  # type: ignore[union-attr]
    assert manager.accounts()["writer"].held == 300
    hold.settle(200)
    assert manager.report()["writer"] == {"allocated": 1_000, "consumed": 200, "remaining": 800}


@pytest.mark.parametrize("key", [None, "grant-1"])
def test_an_unknown_top_up_is_found_by_the_key_of_the_error(key: str | None) -> None:
    """Once, whichever way it is asked for again."""
    store = UnreliableStore()
    manager = manager_on(store)
    manager.report()
    store.loses_answers = True
    with pytest.raises(OutcomeUnknownError) as caught:
        manager.top_up("writer", 500, key=key)
    store.loses_answers = False
    assert manager.resolve(caught.value.key) is not None
    manager.top_up("writer", 500, key=caught.value.key)
    assert manager.report()["writer"]["allocated"] == 1_500


def test_what_never_took_effect_is_not_found() -> None:
    """Then it may be done anew."""
    store = UnreliableStore()
    manager = manager_on(store)
    assert manager.resolve("job-17") is None
    store.down = True
    with pytest.raises(StoreError):
        manager.resolve("job-17")
    with pytest.raises(StoreError):
        manager.top_up("writer", 5, key="job-17")
    store.down = False
    assert manager.resolve("job-17") is None


def test_a_charge_that_waits_is_found() -> None:
    """It was not posted yet, and will be: to do it anew under another key would count twice."""
    store = UnreliableStore()
    manager = manager_on(store)
    store.down = True
    manager._engine.backlog._thread = threading.current_thread()  # this test is the thread
    manager.record_usage("writer", 40, key="job-17")
    waits = Posted("writer", 40, 0, (), 0)
    assert manager.resolve("job-17") == waits
    assert asyncio.run(manager.aresolve("job-17")) == waits
    store.down = False
    assert manager.flush()
    posted = manager.resolve("job-17")
    assert posted is not None
    assert posted.seq > 0
    assert manager.record_usage("writer", 40, key="job-17") == posted
    assert manager.report()["writer"]["consumed"] == 40
