"""The view of a scope: its numbers are the books', at the end and at each refusal."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.report.books import START, History, at_random, kept, large

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager, Usage
from tbcontracts.books import Statement
from tbcontracts.commands import (
    ChangeContract,
    Charge,
    Command,
    Expire,
    Finish,
    Open,
    Refuse,
    Reserve,
    Settle,
    TopUp,
    Void,
)
from tbcontracts.report.moments import BUDGET_CODES
from tbcontracts.report.view import (
    CALLS_EACH_END,
    DENIALS_EACH_END,
    ENTRIES_EACH_END,
    Flow,
    ReportView,
    view_of,
)
from tbcontracts.report.words import Amounts, reason_of


def team(*more: tuple[Command, float]) -> History:
    """Return what happened to a boss, a helper and a stranger."""
    contracts = (
        BudgetContract("boss", priority=3, max_tokens=1_000, min_reserve=100),
        BudgetContract("peer", priority=3, max_tokens=500, min_reserve=400),
        BudgetContract("helper", priority=1, max_tokens=800, min_reserve=50),
    )
    return kept([(Open(contracts), 0.0), *more])


def seen(history: History, cut: int = 0) -> ReportView:
    """Return the view, without the first entries of the journal."""
    return view_of(history.statement, history.journal[cut:], "run")


def test_flows_add_up_to_who_gave_to_whom() -> None:
    """Moves for holds and for overdrafts, and the rest that a finished agent leaves."""
    view = seen(
        team(
            (Reserve("boss", 1_200, "h1"), 1.0),
            (Finish("helper"), 1.0),
            (Charge("peer", 900), 1.0),
        )
    )
    assert view.flows == (
        Flow("helper", None, 600, 1),
        Flow(None, "peer", 400, 1),
        Flow("helper", "boss", 200, 1),
    )
    balances = {row.account.agent: row for row in view.balances}
    assert (balances["helper"].given, balances["helper"].returned) == (200, 600)
    assert (balances["boss"].received, balances["peer"].received) == (200, 400)


def test_calls_are_numbered_in_the_order_in_which_they_asked() -> None:
    """Granted or refused, each one counts; what has no hold, and what ends one, does not."""
    view = seen(
        team(
            (Reserve("boss", 10, "h1"), 1.0),
            (Charge("boss", 5), 1.0),
            (Reserve("helper", 5_000, "h2"), 1.0),
            (Settle("h1", "boss", 7, Usage(input_tokens=7)), 1.0),
            (Reserve("boss", 20, "h3"), 1.0),
            (Refuse("peer", 30, "unbounded"), 1.0),
        )
    )
    assert [(call.number, call.agent, call.outcome, call.used) for call in view.calls] == [
        (1, "boss", "settled", 7),
        (2, "helper", "denied", None),
        (3, "boss", "open", None),
        (4, "peer", "denied", None),
    ]
    assert [(denial.call, denial.code) for denial in view.denials] == [
        (2, "budget_exceeded"),
        (4, "unbounded"),
    ]
    assert view.asked == 4


def test_how_calls_end() -> None:
    """Estimated, late, given back, expired, expired and charged, let through."""
    view = seen(
        team(
            (Reserve("boss", 10, "h1"), 1.0),
            (Settle("h1", "boss", 9, Usage.estimated(9), "streamed"), 1.0),
            (Reserve("boss", 10, "h2"), 1.0),
            (Void("h2"), 1.0),
            (Reserve("boss", 10, "h3", ttl_s=1.0), 1.0),
            (Reserve("boss", 10, "h4", ttl_s=1.0, enforcement="strict"), 0.0),
            (Reserve("boss", 10, "h5", ttl_s=1.0), 0.0),
            (Expire(), 2.0),
            (Settle("h5", "boss", 3, Usage(input_tokens=3)), 1.0),
            (Reserve("boss", 9_000, "h6", enforcement="observe"), 1.0),
            (Settle("h6", "boss", 8, Usage(input_tokens=8)), 1.0),
        )
    )
    assert [
        (call.outcome, call.used, call.unmeasured, call.late, call.let_through)
        for call in view.calls
    ] == [
        ("settled", 9, True, False, False),
        ("voided", None, False, False, False),
        ("expired", None, False, False, False),
        ("expired", 10, True, False, False),
        ("settled", 3, False, True, False),
        ("settled", 8, False, False, True),
    ]
    assert view.calls[0].note == "streamed"


def test_a_refusal_shows_who_could_give_and_why_others_could_not() -> None:
    """What is above the reserve of lower and equal priorities, and nothing from higher ones."""
    view = seen(
        team(
            (Charge("stranger", 70, track=True), 1.0),
            (Reserve("boss", 100, "h1"), 1.0),
            (Reserve("peer", 5_000, "h2"), 1.0),
            (Reserve("helper", 5_000, "h3"), 1.0),
        )
    )
    first, second = view.denials
    given = {one.agent: (one.could_give, one.why) for one in first.books.others}
    assert given == {
        "boss": (800, "gives"),
        "helper": (750, "gives"),
        "stranger": (0, "no_contract"),
    }
    assert (first.available, first.lacking) == (500 + 800 + 750, 5_000 - 2_050)
    assert first.books.could_give == 1_550
    given = {one.agent: (one.could_give, one.why) for one in second.books.others}
    assert given == {"boss": (0, "uphill"), "peer": (0, "uphill"), "stranger": (0, "no_contract")}
    boss = next(one for one in second.books.others if one.agent == "boss")
    assert (boss.allocated, boss.held, boss.remaining, boss.reserve) == (1_000, 100, 900, 100)


def test_what_an_overdrawn_agent_lacks_counts_the_overdraft() -> None:
    """The books say how much could be reached, never below 0; what is lacking is exact."""
    history = team(
        (Charge("helper", 5_000), 1.0),
        (Reserve("helper", 10, "h1"), 1.0),
    )
    (denial,) = seen(history).denials
    assert denial.available == 0
    assert denial.lacking == 4_200 + 10
    assert "its reserve is kept" not in reason_of(denial, Amounts("tokens"))


@pytest.mark.parametrize("used", [500, 800])
def test_what_an_agent_lacks_that_keeps_its_reserve_counts_the_reserve(used: int) -> None:
    """Under "end", whether a part of the rest is free or none; the page says why, as the error."""
    manager = BudgetManager(clock=lambda: START)
    manager.register_agent("writer", max_tokens=1_000, min_reserve=300, on_exceeded="end")
    manager.record_usage("writer", used)
    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve("writer", 600)
    (denial,) = view_of(manager.statement(), manager.journal(), "default").denials
    assert denial.code == caught.value.code == "budget_exceeded"
    assert denial.lacking == caught.value.lacking == used - 100
    assert "its reserve is kept for the call that closes its work" in reason_of(
        denial, Amounts("tokens")
    )


def test_repeated_refusals_are_counted_although_they_write_no_entry() -> None:
    """The statement knows of all; the journal of one."""
    asks: list[tuple[Command, float]] = [
        (Reserve("helper", 5_000, f"h{number}"), 1.0) for number in range(5)
    ]
    view = seen(team(*asks))
    assert (view.refused, len(view.denials), view.repeats) == (5, 1, 4)


def truth_of(statement: Statement) -> dict[str, tuple[int, int, int]]:
    """Return the numbers of each agent."""
    return {one.agent: (one.allocated, one.consumed, one.held) for one in statement.accounts}


def check_moments(view: ReportView, history: History) -> None:
    """Compare each refusal's books with what they were; what is not known is no number at all."""
    for denial in view.denials:
        moment = history.moments.get(denial.entry.seq)
        if moment is None:
            continue  # a command after it wrote more
        truth, surplus = truth_of(moment), history.surplus[denial.entry.seq]
        shown = [denial.books.taker, *denial.books.others]
        for one in shown:
            if one.allocated is None:  # whether it was there at all is not known
                assert not view.whole
                assert one.could_give is None
                continue
            assert (one.allocated, one.consumed, one.held) == truth[one.agent]
            if one.why == "gives":
                assert one.could_give == surplus[one.agent] > 0
            elif one.why == "reserve":
                assert surplus[one.agent] == 0
        assert denial.books.pool == moment.pool
        if view.whole:
            assert len(shown) + denial.books.not_shown == len(truth)
            if denial.code in BUDGET_CODES and denial.code != "fragmented":
                assert denial.lacking is not None


def check_sums(view: ReportView, history: History) -> None:
    """Compare sums with the statement: what flowed explains what is allocated."""
    added: Counter[str | None] = Counter()
    for entry in history.journal:
        if entry.kind in ("opened", "contract_changed", "topped_up"):
            added[entry.agent] += entry.amount
    for row in view.balances:
        agent = row.account.agent
        came = added[agent] + row.received
        assert row.account.allocated == came - row.given - row.returned
    assert all(flow.donor != flow.taker for flow in view.flows)
    to_pool = sum(flow.amount for flow in view.flows if flow.taker is None)
    from_pool = sum(flow.amount for flow in view.flows if flow.donor is None)
    assert history.statement.pool == added[None] + to_pool - from_pool
    if view.timeline.parts:
        last = view.timeline.parts[-1]
        assert (last.consumed, last.held) == (view.consumed, view.held)
        assert last.total == history.statement.total


@given(seed=st.integers(0, 10**9), size=st.integers(0, 120))
@settings(max_examples=100)
def test_the_numbers_are_the_books_whatever_happened(seed: int, size: int) -> None:
    """At the end, in every sum, and at each refusal, for commands at random."""
    history = at_random(random.Random(seed), size)
    view = seen(history)
    assert view.whole
    assert view.consumed == sum(one.consumed for one in history.statement.accounts)
    check_sums(view, history)
    check_moments(view, history)


@given(seed=st.integers(0, 10**9), size=st.integers(20, 120), data=st.data())
@settings(max_examples=100)
def test_a_journal_that_was_cut_tells_no_wrong_number(
    seed: int, size: int, data: st.DataObject
) -> None:
    """What is known is right, what is not known is None, and the end is always known."""
    history = at_random(random.Random(seed), size)
    cut = data.draw(st.integers(1, len(history.journal)))
    view = seen(history, cut)
    assert not view.whole
    assert view.first_seq == cut + 1
    assert view.repeats is None
    check_moments(view, history)
    if view.timeline.parts:
        last = view.timeline.parts[-1]
        assert last.consumed in (None, view.consumed)
        assert last.held in (None, view.held)
        assert last.total == history.statement.total


def test_what_a_cut_journal_does_not_tell_is_none_and_not_zero() -> None:
    """A void does not say whether it gave back a hold or a charge: before it nothing is known."""
    history = team(
        (Reserve("peer", 100, "h1"), 1.0),
        (Reserve("helper", 9_000, "h2"), 1.0),
        (Reserve("boss", 9_000, "h3"), 1.0),
        (Void("h1"), 1.0),
        (Reserve("boss", 9_001, "h4"), 1.0),
    )
    view = seen(history, cut=4)
    first, second, third = view.denials
    peers = {one.agent: one for one in second.books.others}
    assert peers["peer"].remaining is None
    assert peers["peer"].could_give is None
    assert peers["peer"].why == "unknown"
    assert second.books.could_give is None
    assert first.books.taker.remaining == 800
    assert third.books.could_give == 100 + 750
    assert view.timeline.parts[0].held is None
    assert view.timeline.parts[-1].held == 0


def test_terms_that_changed_after_the_cut_are_not_told_before_it() -> None:
    """A reserve of now is not a reserve of then."""
    smaller = BudgetContract("helper", priority=2, max_tokens=700, min_reserve=10)
    history = team(
        (Reserve("boss", 9_000, "h1"), 1.0),
        (ChangeContract(smaller), 1.0),
        (Reserve("boss", 9_001, "h2"), 1.0),
    )
    before, after = seen(history, cut=3).denials
    then = {one.agent: (one.priority, one.reserve, one.why) for one in before.books.others}
    assert then["helper"] == (None, None, "unknown")
    gifts = {one.agent: one.could_give for one in before.books.others}
    assert gifts["helper"] is None
    assert before.books.could_give is None
    then = {one.agent: (one.priority, one.reserve, one.why) for one in after.books.others}
    assert then["helper"] == (2, 10, "gives")


def test_books_without_a_journal_have_a_view_too() -> None:
    """Only the end is known, and nothing else is made up."""
    history = team((Reserve("boss", 9_000, "h1"), 1.0), (TopUp(None, 50), 1.0))
    view = view_of(history.statement, (), "run")
    assert (view.whole, view.from_at, view.asked, view.flows) == (False, None, 0, ())
    assert view.refused == 1
    assert view.statement.pool == 50
    empty = view_of(Statement(0, 0, 0, False, ()), (), "run")
    assert empty.whole


def test_entries_after_the_statement_are_left_out() -> None:
    """A call between the two readings does not make them contradict each other."""
    history = team((Reserve("boss", 10, "h1"), 1.0), (Reserve("boss", 20, "h2"), 1.0))
    earlier = history.moments[4]
    view = view_of(earlier, history.journal, "run")
    assert view.asked == 1
    assert view.held == 10


def test_large_journals_are_folded_and_nothing_is_lost_in_the_sums() -> None:
    """The first and the last ones are kept, the rest is counted."""
    history = large(6_000)
    view = seen(history)
    refused = sum(entry.kind == "denied" for entry in history.journal)
    assert refused > 2 * DENIALS_EACH_END
    assert len(view.denials) == 2 * DENIALS_EACH_END
    assert len(view.calls) == 2 * CALLS_EACH_END
    assert len(view.entries) == 2 * ENTRIES_EACH_END
    assert view.denials_not_shown == refused - len(view.denials)
    assert sum(group.times for group in view.groups) == refused
    assert len(view.timeline.parts) == 48
    assert sum(part.counts.get("refused", 0) for part in view.timeline.parts) == refused
    assert view.calls[-1].number == view.asked
    check_sums(view, history)


def test_the_refusal_that_a_manager_raised_is_the_one_on_the_page() -> None:
    """Through the manager, as a program meets it."""
    manager = BudgetManager(clock=lambda: START)
    manager.register_agent("writer", max_tokens=100)
    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve("writer", 150)
    view = view_of(manager.statement(), manager.journal(), "default")
    (denial,) = view.denials
    assert denial.entry.amount == caught.value.requested == 150
    assert denial.available == caught.value.available == 100
    assert denial.lacking == 50
    assert not view.timeline.by_time
