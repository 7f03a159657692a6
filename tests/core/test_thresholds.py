"""Thresholds: told once for each agent and scope, after the fact, and again only after a change."""

from __future__ import annotations

import gc
import logging
import math
import threading
import weakref
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tbcontracts import BudgetContract, BudgetExceededError, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.events import JournalEntry, Kind, Move
from tbcontracts.sizing import CallShape
from tbcontracts.stores import open_store
from tbcontracts.thresholds import _ACCOUNTS_MAX, ThresholdPassed, Thresholds
from tbcontracts.tokens import RequestSize

Told = list[tuple[str, str, float]]


def watched(
    of_writer: Sequence[float] | None = None, **settings: Any
) -> tuple[BudgetManager, Told]:
    """Return a manager with two agents, and what is told of them."""
    told: Told = []
    manager = BudgetManager(**{"warn_at": [0.8, 0.95], **settings})
    terms: Any = {"max_tokens": 1_000, "min_reserve": 0}
    manager.register_agent("writer", priority=2, warn_at=of_writer, **terms)
    manager.register_agent("donor", max_tokens=1_000, min_reserve=0)
    manager.on_threshold(lambda passed: told.append((passed.scope, passed.agent, passed.threshold)))
    return manager, told


def heard(manager: BudgetManager, told: Told) -> Told:
    """Return what was told since the last time."""
    assert manager.flush_listeners(10)
    new = list(told)
    told.clear()
    return new


def test_each_is_told_once_for_agent_and_scope(caplog: pytest.LogCaptureFixture) -> None:
    """By the log too; holds do not count, only what was used."""
    manager, told = watched()
    with caplog.at_level(logging.WARNING, "tbcontracts"):
        with manager.reserve("writer", 1_000) as hold:
            assert heard(manager, told) == []
            hold.settle(799)
        assert heard(manager, told) == []
        manager.record_usage("writer", 1)
        assert heard(manager, told) == [("default", "writer", 0.8)]
        manager.record_usage("writer", 100)
        assert heard(manager, told) == []
    assert [record.getMessage() for record in caplog.records] == [
        "Agent 'writer' has used 800 of 1,000 tokens (80%) in scope 'default': it passed 80%."
    ]
    manager.scope("other").record_usage("writer", 990)
    assert heard(manager, told) == [("other", "writer", 0.8), ("other", "writer", 0.95)]
    manager.record_usage("donor", 999)
    assert heard(manager, told) == [("default", "donor", 0.8), ("default", "donor", 0.95)]


def test_one_who_lends_passes_too() -> None:
    """A donor that used little of much has used much of what is left."""
    manager, told = watched()
    manager.record_usage("donor", 500)
    manager.reserve("writer", 1_400).settle(10)
    assert heard(manager, told) == [("default", "donor", 0.8)]


def test_it_is_told_again_after_a_clear_change_only() -> None:
    """A top-up that brings the agent 5 points below; one that brings it just below is no news."""
    manager, told = watched(warn_at=[0.8])
    manager.record_usage("writer", 800)
    assert len(heard(manager, told)) == 1
    manager.top_up("writer", 50)  # 76 %
    manager.record_usage("writer", 100)
    assert heard(manager, told) == []
    manager.top_up("writer", 950)  # 45 %
    assert heard(manager, told) == []
    manager.record_usage("writer", 750)
    assert heard(manager, told) == [("default", "writer", 0.8)]
    manager.reserve("writer", 1_300).void()  # 55 %, with what the donor lent
    manager.record_usage("writer", 900)
    assert heard(manager, told) == [("default", "writer", 0.8)]


def test_an_entry_that_comes_late_changes_nothing() -> None:
    """Threads on one scope may be heard in another order than the books have."""

    def entry(seq: int, agent: str, allocated: int, consumed: int, *moves: Move) -> JournalEntry:
        kind: Kind = "transferred" if moves else "charged"
        return JournalEntry(seq, 1.0, kind, agent, 1, None, moves, allocated, consumed, 0, 0, {})

    told: list[tuple[str, int, int]] = []
    thresholds = Thresholds((0.5, 0.8), lambda _, agent: BudgetContract(agent), "tokens")
    thresholds.add(lambda passed: told.append((passed.agent, passed.consumed, passed.allocated)))
    thresholds("s", entry(4, "donor", 60, 40))  # it gave 40 of 100 in the third
    thresholds("s", entry(6, "taker", 140, 120))
    assert told == [("donor", 40, 60), ("taker", 120, 140), ("taker", 120, 140)]
    thresholds("s", entry(2, "donor", 100, 10))
    thresholds("s", entry(3, "taker", 140, 0, Move("donor", 40)))
    thresholds("s", entry(5, "taker", 140, 30))
    thresholds("s", entry(7, "donor", 60, 41))
    thresholds("s", entry(8, "taker", 140, 121))
    assert len(told) == 3
    anew = JournalEntry(1, 2.0, "charged", "donor", 1, None, (), 10, 1, 0, 0, {})
    thresholds("s", anew)  # other books of this name: they begin at 1
    thresholds("s", anew._replace(seq=2, consumed=6))
    assert told[3:] == [("donor", 6, 10)]


def test_threads_on_many_scopes_are_told_once(any_url: str) -> None:
    """In every store: whatever order the answers to the threads come in."""
    with closing(open_store(any_url)) as store:
        manager, told = watched(store=store)
        begin = threading.Barrier(8)

        def work() -> None:
            for scope in (manager.scope(f"run {number}") for number in range(12)):
                begin.wait()
                for _ in range(2):
                    scope.record_usage("writer", 60)  # each one is more than the margin

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(heard(manager, told)) == sorted(
            (f"run {number}", "writer", share) for number in range(12) for share in (0.8, 0.95)
        )


def test_an_agent_that_finished_is_no_news() -> None:
    """It has what it used and no more; a top-up makes it one to watch again."""
    manager, told = watched()
    manager.record_usage("writer", 100)
    manager.finish("writer")
    assert heard(manager, told) == []
    manager.top_up("writer", 10)
    assert heard(manager, told) == [("default", "writer", 0.8)]


def test_names_without_a_contract_have_no_share() -> None:
    """They are tracked without a limit; an agent with no budget at all passes by any use."""
    manager, told = watched()
    manager.register_agent("broke", priority=4095, max_tokens=0)
    books = manager.scope("x")
    books.reserve("donor", 1_000)
    books.reserve("writer", 1_000)
    with pytest.raises(BudgetExceededError):
        books.record_usage("broke", 5)
    assert heard(manager, told) == [("x", "broke", 0.8), ("x", "broke", 0.95)]
    with pytest.warns(UserWarning, match="'nobody' has no contract"):
        manager.begin_call("nobody", CallShape(RequestSize(1, 1))).hold.settle(50)
    assert heard(manager, told) == []


def test_one_that_fails_or_hangs_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Others are told all the same, outside every lock, and calls go on meanwhile."""
    manager, told = watched(warn_at=[0.5])
    go_on, begun = threading.Event(), threading.Event()

    def fails(passed: ThresholdPassed) -> None:
        raise RuntimeError

    def hangs(passed: ThresholdPassed) -> None:
        begun.set()
        go_on.wait(10)
        told.append(("asked", passed.agent, manager.remaining(passed.agent)))

    manager.on_threshold(fails)
    remove = manager.on_threshold(hangs)
    manager.record_usage("writer", 500)
    assert begun.wait(10)
    manager.record_usage("writer", 100)
    go_on.set()
    assert heard(manager, told) == [("default", "writer", 0.5), ("asked", "writer", 400)]
    assert "A function given to on_threshold failed: Agent 'writer' has used" in caplog.text
    remove()
    remove()
    manager.record_usage("donor", 500)
    assert heard(manager, told) == [("default", "donor", 0.5)]


def test_each_process_warns_of_what_it_did_itself(tmp_path: Path) -> None:
    """On shared books: at the first entry of its own that shows it, and once."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    (one, of_one), (other, of_other) = watched(store=url), watched(store=url)
    one.record_usage("writer", 850)
    assert heard(one, of_one) == [("default", "writer", 0.8)]
    assert heard(other, of_other) == []
    other.record_usage("writer", 10)
    other.record_usage("writer", 10)
    assert heard(other, of_other) == [("default", "writer", 0.8)]
    assert heard(one, of_one) == []


def test_many_scopes_are_forgotten() -> None:
    """What is remembered is bounded, however many runs a process serves."""
    told: list[ThresholdPassed] = []
    thresholds = Thresholds((0.5,), lambda _, agent: BudgetContract(agent), "tokens")
    thresholds.add(told.append)
    for number in range(_ACCOUNTS_MAX + 10):
        entry = JournalEntry(1, 0.0, "charged", "a", 6, None, (), 10, 6, 0, 0, {})
        thresholds(f"run {number}", entry)
    assert len(thresholds._watched) == _ACCOUNTS_MAX
    assert len(told) == _ACCOUNTS_MAX + 10


def test_thresholds_keep_no_manager_alive() -> None:
    """They know the manager's contracts, and the manager knows them; nothing else does."""
    manager, told = watched()
    manager.record_usage("writer", 900)
    assert heard(manager, told)
    engine = weakref.ref(manager._engine)
    del manager
    gc.collect()
    assert engine() is None


@pytest.mark.parametrize(
    "warn_at", [0.8, "80 %", [0], [1.1], [-0.5], [math.nan], [True], ["0.8"], [None], {0.8}]
)
def test_wrong_shares_are_told(warn_at: Any) -> None:
    """Shares above 0 and up to 1, in a list."""
    with pytest.raises(ConfigurationError, match="warn_at must"):
        BudgetManager(warn_at=warn_at)


def test_settings_and_words() -> None:
    """Lowest first, each once; from a file too; dollars are written as dollars."""
    assert BudgetManager(warn_at=(0.9, 0.5, 0.9)).settings.warn_at == (0.5, 0.9)
    assert BudgetManager.from_config({"warn_at": [1, 0.5]}).settings.warn_at == (0.5, 1.0)
    with pytest.raises(ConfigurationError, match=r"warn_at\.0: must be a share"):
        BudgetManager.from_config({"warn_at": [80]})
    with pytest.raises(ConfigurationError, match="no thresholds to tell of"):
        BudgetManager().on_threshold(print)
    with pytest.raises(TypeError, match="takes a function, not int"):
        BudgetManager(warn_at=[0.5]).on_threshold(5)  # type: ignore[arg-type]
    dollars = ThresholdPassed("s", "a", 0.8, 1_250_000, 1_500_000, "usd")
    assert "has used $1.25 of $1.50 (83%) in scope 's'" in str(dollars)
    small = dollars._replace(consumed=2_610, allocated=5_000)
    assert "has used $0.00261 of $0.005 (52%) in scope 's'" in str(small)
    assert ThresholdPassed("s", "a", 0.8, 5, 0, "tokens").share == math.inf
    assert "used 5 of 0 tokens in scope" in str(ThresholdPassed("s", "a", 0.8, 5, 0, "tokens"))


OF_AGENTS = """
warn_at = [0.8]
[agents.writer]
warn_at = [0.5]
[agents.donor]
[agents."w*"]
warn_at = []
[agents."a[*]"]
warn_at = [0.3]
"""


def test_agents_have_thresholds_of_their_own() -> None:
    """In their contract, by name or pattern; nothing for whom none is meant."""
    manager, told = watched(warn_at=[0.8])
    manager.register_agent("own", max_tokens=1_000, min_reserve=1_000, warn_at=[0.5, 0.2])
    manager.register_pattern("silent*", max_tokens=1_000, min_reserve=1_000, warn_at=())
    manager.register_pattern("w*", max_tokens=1_000, min_reserve=1_000, warn_at=[0.3])
    for name in ("own", "silent 1", "w 1", "writer"):
        manager.record_usage(name, 900)
    assert heard(manager, told) == [
        ("default", "own", 0.2),
        ("default", "own", 0.5),
        ("default", "w 1", 0.3),
        ("default", "writer", 0.8),
    ]
    manager.scope("b").record_usage("own", 300)
    assert heard(manager, told) == [("b", "own", 0.2)]


def test_thresholds_of_a_contract_alone() -> None:
    """They are told where the manager has none; and as soon as a changed contract has some."""
    manager = BudgetManager()
    manager.register_agent("own", max_tokens=1_000, warn_at=[0.5])
    manager.register_agent("other", max_tokens=1_000, min_reserve=1_000)
    told: Told = []
    manager.on_threshold(lambda one: told.append((one.scope, one.agent, one.threshold)))
    for name in ("own", "other"):
        manager.record_usage(name, 600)
    assert heard(manager, told) == [("default", "own", 0.5)]
    manager.change_contract("own", warn_at=[0.55, 0.65])
    manager.change_contract("other", warn_at=[0.6])
    assert heard(manager, told) == [("default", "own", 0.55), ("default", "other", 0.6)]
    manager.change_contract("own", warn_at=None)
    manager.record_usage("own", 300)
    assert heard(manager, told) == []
    later = BudgetManager()
    later.register_agent("a", max_tokens=100)
    later.change_contract("a", warn_at=[0.5])
    later.on_threshold(lambda one: told.append((one.scope, one.agent, one.threshold)))
    later.record_usage("a", 50)
    assert heard(later, told) == [("default", "a", 0.5)]


def test_a_contract_of_the_books_has_the_thresholds_of_this_process(tmp_path: Path) -> None:
    """They stand on no books: each process has those it was given."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    for shares, used in ((0.2, 300), (0.5, 300)):
        manager = BudgetManager(store=url)
        manager.register_pattern("w*", max_tokens=1_000, warn_at=[shares])
        told: list[float] = []
        manager.on_threshold(lambda one, told=told: told.append(one.threshold))  # type: ignore[misc]
        manager.record_usage("w", used)
        assert manager.flush_listeners(10)
        assert told == [shares]
        manager.store.close()


def test_agents_of_a_file_have_thresholds_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without has the file's, whatever pattern it matches; others for all leave its own."""
    path = tmp_path / "b.toml"
    path.write_text(OF_AGENTS)

    def passed(**changes: Any) -> dict[str, list[float]]:
        manager = BudgetManager.from_config(path, **changes)
        told: dict[str, list[float]] = {}
        manager.on_threshold(lambda one: told.setdefault(one.agent, []).append(one.threshold))
        manager.register_agent("beside")
        for name in ("writer", "donor", "w2", "a*", "beside"):
            manager.record_usage(name, 900)
        assert manager.flush_listeners(10)
        return told

    own = {"writer": [0.5], "a*": [0.3]}
    assert passed() == {**own, "donor": [0.8], "beside": [0.8]}
    assert passed(warn_at=[0.1, 0.9]) == {**own, "donor": [0.1, 0.9], "beside": [0.1, 0.9]}
    assert passed(warn_at=[]) == own
    monkeypatch.setenv("TBCONTRACTS_WARN_AT", "0.7")
    assert passed() == {**own, "donor": [0.7], "beside": [0.7]}


def test_threads_hear_of_their_own_thresholds_once(any_url: str) -> None:
    """In every store: each agent its own, whatever order the answers come in."""
    with closing(open_store(any_url)) as store:
        manager, told = watched(store=store, warn_at=[0.8], of_writer=[0.5])
        begin = threading.Barrier(4)

        def work() -> None:
            for scope in (manager.scope(f"run {number}") for number in range(6)):
                begin.wait()
                for _ in range(3):
                    scope.record_usage("writer", 75)
                    scope.record_usage("donor", 75)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(heard(manager, told)) == sorted(
            (f"run {number}", agent, share)
            for number in range(6)
            for agent, share in (("writer", 0.5), ("donor", 0.8))
        )


@pytest.mark.parametrize(
    ("warn_at", "kind", "said"),
    [
        (0.5, TypeError, "warn_at of agent 'a' must be a list of shares, not 0.5"),
        ("0.5", TypeError, "warn_at of agent 'a' must be a list of shares, not '0.5'"),
        ([5], ValueError, "warn_at of agent 'a' must hold shares above 0 and up to 1, not 5"),
    ],
)
def test_wrong_shares_of_agents_are_told(warn_at: Any, kind: type[Exception], said: str) -> None:
    """With the agent they are of."""
    with pytest.raises(kind) as refused:
        BudgetContract("a", warn_at=warn_at)
    assert said in str(refused.value)


def test_wrong_shares_of_an_agent_in_a_file_are_told_with_their_line(tmp_path: Path) -> None:
    """Each of them."""
    path = tmp_path / "b.toml"
    path.write_text("[agents.a]\nwarn_at = [0,\n0.5,\n2]\n")
    with pytest.raises(ConfigurationError) as refused:
        BudgetManager.from_config(path)
    assert "line 2, agents.a.warn_at.0: must be a share" in str(refused.value)
    assert "line 4, agents.a.warn_at.2: must be a share" in str(refused.value)
