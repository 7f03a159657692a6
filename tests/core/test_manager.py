"""The manager as its users have it: promises, errors, both doors."""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ConfidenceGateError,
    ContractConflictError,
    Hold,
    IdempotencyConflictError,
    TBCError,
    UnknownAgentError,
    Usage,
)
from tbcontracts.books import Statement
from tbcontracts.errors import ConfigurationError


def small_team(**settings: Any) -> BudgetManager:
    """Return a manager with a boss, a peer and a helper."""
    manager = BudgetManager(**settings)
    manager.register_agent("boss", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("peer", priority=3, max_tokens=1_000, min_reserve=100)
    manager.register_agent("helper", priority=1, max_tokens=1_000, min_reserve=100)
    return manager


def conserved(statement: Statement) -> bool:
    """Return whether P1 holds."""
    return sum(account.allocated for account in statement.accounts) + statement.pool == (
        statement.total
    )


def test_exactly_two_of_forty_parallel_holds_fit_threads() -> None:
    """40 threads hold 2,000 each on a budget of 5,000: exactly 2 are granted."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=5_000)
    start = threading.Barrier(40)

    def hold() -> bool:
        start.wait()
        try:
            manager.reserve("a", 2_000)
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(40) as threads:
        granted = sum(threads.map(lambda _: hold(), range(40)))
    assert granted == 2
    assert manager.accounts()["a"].held == 4_000
    assert manager.accounts()["a"].denials == 38


def test_exactly_two_of_forty_parallel_holds_fit_asyncio() -> None:
    """40 tasks hold 2,000 each on a budget of 5,000: exactly 2 are granted."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=5_000)

    async def hold() -> None:
        await manager.areserve("a", 2_000)

    async def all_at_once() -> list[BaseException | None]:
        return await asyncio.gather(*(hold() for _ in range(40)), return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert sum(result is None for result in results) == 2
    assert sum(isinstance(result, BudgetExceededError) for result in results) == 38


def test_donors_give_in_order_and_keep_their_reserve() -> None:
    """The lowest priority gives first, nobody below its reserve, and the sum stays the same."""
    manager = small_team()
    hold = manager.reserve("boss", 2_000)
    assert [(move.donor, move.amount) for move in hold.moves] == [("helper", 900), ("peer", 100)]
    assert manager.report() == {
        "boss": {"allocated": 2_000, "consumed": 0, "remaining": 0},
        "peer": {"allocated": 900, "consumed": 0, "remaining": 900},
        "helper": {"allocated": 100, "consumed": 0, "remaining": 100},
    }
    assert conserved(manager.statement())


def test_budget_never_flows_uphill_and_a_denial_moves_nothing() -> None:
    """The helper gets nothing from its betters, and its refusal leaves every account alone."""
    manager = small_team()
    before = manager.report()
    with pytest.raises(BudgetExceededError) as refused:
        manager.reserve("helper", 1_001)
    assert manager.report() == before
    error = refused.value
    assert (error.agent_name, error.requested, error.available) == ("helper", 1_001, 1_000)
    assert error.code == "budget_exceeded"
    assert "manager.top_up('helper', 1)" in str(error)
    manager.top_up("helper", 1)
    manager.reserve("helper", 1_001)


def test_pool_is_used_before_donors() -> None:
    """What a finished agent left goes to the pool, and the pool gives before any donor."""
    manager = small_team()
    assert manager.finish("peer") == 1_000
    hold = manager.reserve("boss", 2_500)
    assert [(move.donor, move.amount) for move in hold.moves] == [(None, 1_000), ("helper", 500)]


def test_settle_frees_what_was_not_used() -> None:
    """A hold blocks its whole size; the settlement replaces it by what was used."""
    manager = small_team()
    hold = manager.reserve("helper", 600)
    assert manager.remaining("helper") == 400
    hold.settle(Usage(input_tokens=100, output_tokens=50))
    account = manager.accounts()["helper"]
    assert (account.consumed, account.held, account.remaining) == (150, 0, 850)
    assert (account.input_tokens, account.output_tokens) == (100, 50)


def test_usage_beyond_the_hold_is_posted_and_blocks_the_next_hold() -> None:
    """P5: what was billed is on the books even when it breaks the budget; the overdraft blocks."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    posted = manager.reserve("a", 100).settle(150)
    assert posted.overdraft == 50
    assert manager.remaining("a") == -50
    with pytest.raises(BudgetExceededError):
        manager.reserve("a", 1)
    manager.top_up("a", 51)
    manager.reserve("a", 1)


def test_record_usage_posts_first_and_raises_only_for_what_is_left_uncovered() -> None:
    """A charge is never lost: the error comes after the posting, and only for an overdraft."""
    manager = small_team()
    manager.record_usage("boss", 1_500)
    with pytest.raises(BudgetExceededError, match="on the books") as left:
        manager.record_usage("boss", 5_000)
    assert left.value.code == "overdraft"
    assert manager.accounts()["boss"].consumed == 6_500
    assert conserved(manager.statement())


def test_hold_ends_once() -> None:
    """The same end again is the first one; another one is an error and posts nothing."""
    manager = small_team()
    hold = manager.reserve("boss", 100)
    first = hold.settle(70)
    assert hold.settle(70) == first
    for again in (lambda: hold.settle(71), hold.void):
        with pytest.raises(TBCError, match="was settled with 70 before"):
            again()
    assert manager.accounts()["boss"].consumed == 70
    voided = manager.reserve("boss", 100)
    voided.void()
    voided.void()
    with pytest.raises(TBCError, match="was voided before"):
        voided.settle(1)
    assert manager.remaining("boss") == 930


@pytest.mark.parametrize("fail", [False, True])
def test_with_block_left_without_a_word_charges_the_hold(fail: bool) -> None:
    """A call that may have been billed is charged whole, unmeasured, whether it failed or not."""
    manager = small_team()
    try:
        with manager.reserve("boss", 300):
            if fail:
                raise ConnectionResetError
    except ConnectionResetError:
        pass
    account = manager.accounts()["boss"]
    assert (account.consumed, account.unmeasured, account.held) == (300, 300, 0)


def test_with_block_gives_back_what_an_http_error_proves_unbilled() -> None:
    """An HTTP error status on the exception, or on its cause, means that nothing was billed."""

    class ProviderError(Exception):
        status_code = 429

    manager = small_team()
    with pytest.raises(RuntimeError), manager.reserve("boss", 300):
        raise RuntimeError from ProviderError()
    account = manager.accounts()["boss"]
    assert (account.consumed, account.held) == (0, 0)


def test_an_earlier_http_error_proves_nothing_about_a_later_failure() -> None:
    """A time-out while handling a 429 is a second attempt: it may have been billed."""

    class ProviderError(Exception):
        status_code = 429

    manager = small_team()

    def second_attempt() -> None:
        try:
            raise ProviderError
        except ProviderError:
            raise TimeoutError  # noqa: B904 - just this implicit context is what is tested

    with pytest.raises(TimeoutError), manager.reserve("boss", 300):
        second_attempt()
    assert manager.accounts()["boss"].consumed == 300


def test_async_door_gives_equal_books() -> None:
    """The awaited methods do what their twins do."""

    def steps(manager: BudgetManager) -> None:
        with manager.reserve("boss", 1_500) as hold:
            hold.settle(Usage(input_tokens=10, output_tokens=1_300))
        manager.reserve("helper", 20).void()
        manager.record_usage("peer", 30, "note", 0.5)
        manager.top_up(None, 50)
        manager.finish("helper")
        manager.change_contract("peer", max_tokens=1_100)
        manager.reset_confidence("peer")
        manager.reserve("boss", 10).extend(60)

    async def asteps(manager: BudgetManager) -> None:
        async with await manager.areserve("boss", 1_500) as hold:
            await hold.settle(Usage(input_tokens=10, output_tokens=1_300))
        await (await manager.areserve("helper", 20)).void()
        await manager.arecord_usage("peer", 30, "note", 0.5)
        await manager.atop_up(None, 50)
        await manager.afinish("helper")
        await manager.achange_contract("peer", max_tokens=1_100)
        await manager.areset_confidence("peer")
        await (await manager.areserve("boss", 10)).extend(60)
        assert await manager.areport() == manager.report()
        assert await manager.aaccounts() == manager.accounts()
        assert await manager.ajournal() == manager.journal()
        assert await manager.aremaining("boss") == manager.remaining("boss")

    one, other = small_team(clock=lambda: 7.0), small_team(clock=lambda: 7.0)
    steps(one)
    asyncio.run(asteps(other))
    assert one.statement() == other.statement()
    strip = [entry._replace(hold_id=None) for entry in one.journal()]
    assert strip == [entry._replace(hold_id=None) for entry in other.journal()]


def test_keys_make_repeats_harmless() -> None:
    """The same key again returns the first hold or refusal; for something else it is an error."""
    manager = small_team()
    first = manager.reserve("boss", 100, key="k1")
    assert manager.reserve("boss", 100, key="k1").hold_id == first.hold_id
    assert manager.accounts()["boss"].held == 100
    with pytest.raises(IdempotencyConflictError, match="'k1'"):
        manager.reserve("boss", 101, key="k1")
    for _ in range(2):
        manager.record_usage("helper", 40, key="k2")
    assert manager.accounts()["helper"].consumed == 40
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 5_000, key="k3")
    manager.top_up(None, 5_000)
    with pytest.raises(BudgetExceededError):  # a delayed duplicate must not spend later
        manager.reserve("helper", 5_000, key="k3")
    assert manager.resolve("k2") is not None
    assert manager.resolve("never used") is None


def test_dead_owners_hold_stops_blocking_at_its_limit() -> None:
    """P7: after its limit a hold is released; usage that still comes is posted."""
    now = [1_000.0]
    manager = small_team(clock=lambda: now[0])
    hold = manager.reserve("helper", 1_000, ttl_s=60)
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 500)
    now[0] += 60
    manager.reserve("helper", 500).void()
    assert manager.accounts()["helper"].expired_holds == 1
    assert hold.settle(70).late
    assert manager.accounts()["helper"].consumed == 70


def test_strict_mode_charges_a_dead_owners_hold_until_the_truth_comes() -> None:
    """In strict mode the limit charges the hold, unmeasured; a late settle replaces that."""
    now = [1_000.0]
    manager = small_team(clock=lambda: now[0], enforcement="strict")
    hold = manager.reserve("helper", 1_000, ttl_s=60)
    now[0] += 60
    manager.reserve("boss", 1).void()
    account = manager.accounts()["helper"]
    assert (account.consumed, account.unmeasured) == (1_000, 1_000)
    hold.settle(70)
    account = manager.accounts()["helper"]
    assert (account.consumed, account.unmeasured) == (70, 0)


def test_observe_mode_refuses_nothing_and_writes_it_down() -> None:
    """In observe mode a hold that does not fit is let through, moves nothing and is recorded."""
    manager = small_team(enforcement="observe")
    hold = manager.reserve("helper", 5_000)
    assert hold.would_deny
    assert manager.accounts()["helper"].held == 0
    hold.settle(4_000)
    assert manager.remaining("helper") == -3_000
    assert manager.remaining("boss") == 1_000
    kinds = [entry.kind for entry in manager.journal()]
    assert kinds == ["opened", "opened", "opened", "would_deny", "settled"]
    manager.record_usage("helper", 10)


def test_confidence_gate_stops_work_that_is_good_enough() -> None:
    """At its threshold an agent's next hold is refused, with score and threshold, until reset."""
    manager = BudgetManager()
    manager.register_agent("checker", max_tokens=1_000, confidence_threshold=0.8)
    manager.report_confidence("checker", 0.79)
    manager.reserve("checker", 10).void()
    manager.report_confidence("checker", 0.8)
    with pytest.raises(ConfidenceGateError, match=r"0\.8") as gate:
        manager.reserve("checker", 10)
    assert (gate.value.score, gate.value.threshold) == (0.8, 0.8)
    manager.scope("another task").reserve("checker", 10)
    manager.reset_confidence("checker")
    manager.reserve("checker", 10)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
def test_scores_outside_0_to_1_are_refused(score: float) -> None:
    """A bad score is an error, and the last good one stays."""
    manager = small_team()
    with pytest.raises(ValueError, match="between 0 and 1"):
        manager.report_confidence("boss", score)
    assert manager.accounts()["boss"].confidence is None


def test_scopes_are_separate_books_under_the_same_contracts() -> None:
    """A scope is a name: opened on first touch, with all contracts, and independent."""
    manager = small_team()
    run = manager.scope("acme/run-7")
    run.record_usage("boss", 900)
    assert run.remaining("boss") == 100
    assert manager.remaining("boss") == 1_000
    late = manager.register_agent("late", max_tokens=5)
    assert run.report()["late"]["allocated"] == late.max_tokens


def test_periods_in_scope_names_follow_the_clock() -> None:
    """A month in the name makes new books each month, without a reset."""
    now = [1_700_000_000.0]
    manager = small_team(scope="acme/{utc:%Y-%m}", clock=lambda: now[0])
    manager.record_usage("boss", 900)
    assert manager.scope_name == "acme/2023-11"
    hold = manager.reserve("boss", 50)
    now[0] += 31 * 86_400
    assert manager.remaining("boss") == 1_000
    hold.settle(40)  # stays on the books it was taken from
    assert manager.remaining("boss") == 1_000
    assert manager.scope("acme/2023-11").accounts()["boss"].consumed == 940


def test_closed_scopes_take_no_holds_but_late_settles() -> None:
    """A closed scope refuses, and still takes what was used."""
    manager = small_team()
    hold = manager.reserve("boss", 100)
    manager.close_scope()
    with pytest.raises(BudgetExceededError, match="closed") as refused:
        manager.reserve("boss", 1)
    assert refused.value.code == "scope_closed"
    hold.settle(60)
    assert manager.accounts()["boss"].consumed == 60
    with pytest.raises(TBCError, match="closed"):
        manager.top_up("boss", 1)


def test_within_holds_on_both_books_and_gives_back_on_both() -> None:
    """A manager within another holds on the parent first, and leaves nothing when it is refused."""
    team = BudgetManager()
    team.register_agent("crew-a", max_tokens=500)
    crew = small_team().within(team, agent="crew-a")
    hold = crew.reserve("boss", 300)
    assert team.accounts()["crew-a"].held == 300
    hold.settle(200)
    assert team.accounts()["crew-a"].consumed == 200
    with pytest.raises(BudgetExceededError, match="crew-a"):
        crew.reserve("boss", 400)
    assert crew.accounts()["boss"].held == 0
    team.top_up("crew-a", 5_000)
    with pytest.raises(BudgetExceededError, match="'helper'"):
        crew.scope("tiny").reserve("helper", 1_100)
    assert team.accounts()["crew-a"].held == 0
    crew.record_usage("boss", 10)
    assert team.accounts()["crew-a"].consumed == 210


def test_change_contract_moves_allocation_by_the_difference() -> None:
    """A new budget shifts what is allocated, never below what is used or held."""
    manager = small_team()
    manager.record_usage("boss", 600)
    manager.reserve("boss", 100)
    assert manager.change_contract("boss", max_tokens=1_500).max_tokens == 1_500
    assert manager.report()["boss"]["allocated"] == 1_500
    manager.change_contract("boss", max_tokens=200, min_reserve=0)
    assert manager.report()["boss"]["allocated"] == 700
    assert conserved(manager.statement())


def test_registering_twice() -> None:
    """The same contract again changes nothing; another one is a conflict that says what to do."""
    manager = small_team()
    manager.register_agent("boss", priority=3, max_tokens=1_000, min_reserve=100)
    with pytest.raises(ContractConflictError, match="change_contract"):
        manager.register_agent("boss", priority=3, max_tokens=2_000)
    assert manager.report()["boss"]["allocated"] == 1_000


def test_unknown_agents_are_named_with_the_nearest() -> None:
    """An unknown name is a TBCError and a KeyError that helps."""
    manager = small_team()
    for call in (
        lambda: manager.reserve("hlper", 1),
        lambda: manager.record_usage("hlper", 1),
        lambda: manager.remaining("hlper"),
        lambda: manager.top_up("hlper", 1),
        lambda: manager.acting_as("hlper"),
    ):
        with pytest.raises(UnknownAgentError, match="Did you mean 'helper'") as unknown:
            call()
        assert isinstance(unknown.value, KeyError)


@pytest.mark.parametrize("bad", [-1, 2**40 + 1, 1.5, float("nan"), float("inf"), True, "7", None])
def test_bad_amounts_change_nothing(bad: Any) -> None:
    """Bad numbers raise at the door, say what they are, and leave the books alone."""
    manager = small_team()
    hold = manager.reserve("boss", 10)
    before = manager.statement()
    calls: list[Callable[[], object]] = [
        lambda: manager.reserve("boss", bad),
        lambda: manager.record_usage("boss", bad),
        lambda: manager.top_up("boss", bad),
        lambda: hold.settle(bad),
        lambda: manager.register_agent("new", max_tokens=bad),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"boss|new"):
            call()
    assert manager.statement() == before


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "x" * 201, "é" * 101, 7, None])
def test_bad_names_are_refused(name: Any) -> None:
    """Names are 1..200 bytes without control characters."""
    with pytest.raises((TypeError, ValueError), match="name"):
        BudgetContract(name)


def test_names_have_one_spelling() -> None:
    """Names are compared after NFC and without blanks around them."""
    manager = BudgetManager()
    manager.register_agent("  Cafe\u0301 ", max_tokens=10)
    manager.reserve("Caf\u00e9", 5)
    assert list(manager.report()) == ["Caf\u00e9"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("enforcement", "hard"),
        ("unit", "euros"),
        ("policy", "rolling"),
        ("unattributed", "ignore"),
        ("on_contract_change", "ask"),
        ("on_store_error", "ask"),
        ("outbox", 7),
        ("count", "words"),
        ("store", "nosuch://x"),
        ("store", 7),
    ],
)
def test_settings_that_are_not_known_say_which_are(setting: str, value: Any) -> None:
    """A wrong setting is refused when the manager is made."""
    with pytest.raises(ConfigurationError):
        BudgetManager(**{setting: value})


def test_errors_pickle_with_their_facts() -> None:
    """Errors cross process borders whole."""
    manager = small_team()
    with pytest.raises(BudgetExceededError) as refused:
        manager.reserve("helper", 9_000)
    again = pickle.loads(pickle.dumps(refused.value))
    assert type(again) is type(refused.value)
    assert str(again) == str(refused.value)
    assert again.facts() == refused.value.facts()


def test_listeners_hear_everything_and_break_nothing() -> None:
    """Listeners are told each entry in order; one that fails harms neither calls nor the others."""
    manager = small_team()
    heard: list[tuple[str, int]] = []

    def broken(scope: str, entry: object) -> None:
        raise RuntimeError("a listener's own trouble")

    manager.add_listener(broken)
    remove = manager.add_listener(lambda scope, entry: heard.append((scope, entry.seq)))
    manager.reserve("boss", 1_500).settle(1)
    assert manager.flush_listeners(10)
    assert heard == [("default", seq) for seq in range(1, 6)]
    remove()
    manager.reserve("boss", 1).void()
    assert manager.flush_listeners(10)
    assert len(heard) == 5


def test_acting_as_follows_tasks_but_not_plain_threads() -> None:
    """The current agent is a context variable of this manager alone."""
    manager, other = small_team(), small_team()
    with manager.acting_as("boss"):
        assert manager.current_agent == "boss"
        assert other.current_agent is None
        with manager.acting_as("helper"):
            assert manager.current_agent == "helper"

        async def task() -> str | None:
            return await asyncio.to_thread(lambda: manager.current_agent)

        assert asyncio.run(task()) == "boss"
    assert manager.current_agent is None


def test_repeated_identical_denials_are_counted_not_repeated() -> None:
    """A loop of the same refusal fills no journal; the account counts each."""
    manager = small_team()
    for _ in range(100):
        with pytest.raises(BudgetExceededError):
            manager.reserve("helper", 5_000)
    assert manager.accounts()["helper"].denials == 100
    assert [entry.kind for entry in manager.journal()].count("denied") == 1


def test_print_report_shows_who_spent_gave_and_was_refused() -> None:
    """The printed report names balances, transfers, refusals and estimates."""
    manager = small_team()
    manager.reserve("boss", 1_950).settle(1_900)
    with manager.reserve("peer", 20):
        pass
    with pytest.raises(BudgetExceededError):
        manager.reserve("helper", 500)
    page = io.StringIO()
    manager.print_report(page)
    text = page.getvalue()
    assert "Spent 1,920 of 3,000 tokens" in text
    assert "20 are an estimate" in text
    assert "helper -> boss: 900" in text
    assert "helper: a call of 500 was refused (budget exceeded; 100 could be reached)" in text


def test_holds_name_themselves() -> None:
    """A hold shows whose it is, how large, and whether it is open."""
    manager = small_team()
    hold = manager.reserve("boss", 1_200)
    assert isinstance(hold, Hold)
    assert repr(hold) == "<Hold 'boss' 1,200 open>"
    hold.void()
    assert repr(hold) == "<Hold 'boss' 1,200 resolved>"
