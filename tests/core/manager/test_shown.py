"""What a manager shows: errors with facts, events, the current agent, reports."""

from __future__ import annotations

import asyncio
import io
import pickle

import pytest
from tests.core.manager.team import small_team

from tbcontracts import BudgetExceededError, Hold


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


def test_refusals_without_a_line_of_their_own_are_counted() -> None:
    """Those that repeat the one before have no entry, and yet the numbers add up."""
    manager = small_team()
    for tokens in (9_000, 9_000, 9_000, 9_001, 9_000):
        with pytest.raises(BudgetExceededError):
            manager.reserve("helper", tokens)
    out = io.StringIO()
    manager.print_report(file=out)
    text = out.getvalue()
    assert text.count("a call of 9,00") == 3
    assert text.endswith(
        "  and 2 more: the same numbers as the agent's one before, or longer ago\n"
    )
