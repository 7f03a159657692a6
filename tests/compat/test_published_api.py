"""What code for the published package may count on, in our words; and what it must not break."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tbcontracts
from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ConfidenceGate,
    ContractConflictError,
    Ledger,
    Reallocator,
    TBCError,
    UnknownAgentError,
)
from tbcontracts.adapters import TBCCrewGovernor, TBCGraphGovernor, govern_agent, govern_node
from tbcontracts.compat import LedgerEntry
from tbcontracts.errors import ConfigurationError


def two_agents(**least: int) -> tuple[dict[str, BudgetContract], Ledger]:
    """Return contracts and ledger of a boss and a helper, 1,000 tokens each."""
    contracts = {
        "boss": BudgetContract("boss", priority=3, max_tokens=1_000, min_reserve=100),
        "helper": BudgetContract("helper", priority=1, max_tokens=1_000, min_reserve=100),
    }
    ledger = Ledger()
    for name, contract in contracts.items():
        ledger.register(name, contract.max_tokens)
        ledger.record(name, least.get(name, 0))
    return contracts, ledger


# --- names and constructors -----------------------------------------------------------------------


def test_the_published_names_are_there() -> None:
    """All public names of its first release are public names here."""
    published = (
        "BudgetContract Ledger Reallocator ConfidenceGate BudgetManager TBCError "
        "BudgetExceededError UnknownAgentError"
    )
    assert set(published.split()) <= set(tbcontracts.__all__)
    assert tbcontracts.__all__ == sorted(tbcontracts.__all__)
    assert tbcontracts.__version__


def test_constructors_take_the_published_arguments() -> None:
    """Contracts, errors and the gate are made and asked as before."""
    contract = BudgetContract(
        agent_name="a", priority=2, max_tokens=500, min_reserve=None, confidence_threshold=0.8
    )
    assert contract.min_reserve == 50
    assert ConfidenceGate.allow_further_retrieval(contract, confidence=None)
    assert not ConfidenceGate.allow_further_retrieval(contract, 0.8)
    error = BudgetExceededError("a", requested=7, available=3)
    assert (error.agent_name, error.requested, error.available) == ("a", 7, 3)
    assert isinstance(error, TBCError)


def test_methods_take_the_published_argument_names() -> None:
    """`agent_name=` is taken for `name`, as the published package called it."""
    manager = BudgetManager()
    old: Any = manager
    assert old.register_agent(agent_name="a", max_tokens=1_000) == manager.contracts["a"]
    old.record_usage(agent_name="a", tokens_or_usage=30)
    assert old.remaining(agent_name="a") == 970
    assert old.govern(agent_name="a")(lambda: 7)() == 7
    with pytest.raises(TypeError, match="agent_name"):
        old.remaining(agent_name="a", name="a")


# --- documented use -------------------------------------------------------------------------------


def test_quick_start() -> None:
    """Two governed functions are charged, and `report` shows exactly three numbers each."""
    manager = BudgetManager()
    manager.register_agent("researcher", priority=3, max_tokens=4000)
    manager.register_agent("critic", priority=1, max_tokens=2000)

    @manager.govern("researcher")
    def call_researcher(prompt: str) -> str:
        return f"Figures about {prompt}"

    assert call_researcher("rivers") == "Figures about rivers"
    report = manager.report()
    assert list(report["researcher"]) == ["allocated", "consumed", "remaining"]
    assert report["researcher"]["consumed"] > 0
    assert report["critic"] == {"allocated": 2000, "consumed": 0, "remaining": 2000}


def test_a_confident_agent_is_stopped() -> None:
    """A score at the threshold refuses the next call, as a BudgetExceededError."""
    manager = BudgetManager()
    manager.register_agent("checker", 2, 3000, confidence_threshold=0.85)

    @manager.govern("checker", confidence_fn=lambda result: result["confidence"])
    def check(claim: str) -> dict[str, float]:
        return {"confidence": 0.9}

    check("first")
    with pytest.raises(BudgetExceededError, match=r"0\.9"):
        check("second")


def test_record_usage_reallocates_and_raises_for_what_is_not_covered() -> None:
    """Exact numbers pull from a donor; what nobody covers is raised."""
    manager = BudgetManager()
    manager.register_agent("needy", priority=3, max_tokens=100, min_reserve=0)
    manager.register_agent("donor", priority=1, max_tokens=1000, min_reserve=700)
    manager.record_usage("needy", 300, note="provider", confidence=0.5)
    assert manager.report()["needy"] == {"allocated": 300, "consumed": 300, "remaining": 0}
    assert manager.report()["donor"]["allocated"] == 800
    with pytest.raises(BudgetExceededError):
        manager.record_usage("needy", 200)
    with pytest.raises(UnknownAgentError):
        manager.record_usage("ghost", 1)
    with pytest.raises(UnknownAgentError):
        manager.govern("ghost")


# --- manager.ledger and manager.contracts ---------------------------------------------------------


def test_the_managers_ledger_records_whatever_is_left() -> None:
    """`record` is a charge that never raises for the budget; reallocation happens as for others."""
    manager = BudgetManager()
    manager.register_agent("boss", priority=3, max_tokens=100, min_reserve=0)
    manager.register_agent("helper", max_tokens=100, min_reserve=0)
    manager.ledger.record("boss", 150, note="provider")
    manager.ledger.record("boss", 500)
    ledger = manager.ledger
    assert isinstance(ledger, Ledger)
    assert (ledger.allocated("boss"), ledger.consumed("boss")) == (200, 650)
    assert ledger.remaining("boss") == -450
    assert ledger.snapshot() == manager.report()
    with pytest.raises(BudgetExceededError):
        manager.reserve("boss", 1)
    for unknown in (ledger.consumed, ledger.allocated, ledger.remaining):
        with pytest.raises(KeyError, match="Did you mean 'helper'"):
            unknown("hlper")
    with pytest.raises(KeyError, match="Did you mean 'helper'"):
        ledger.record("hlper", 1)


def test_the_managers_ledger_tells_its_history() -> None:
    """The history is what the journal has of charges: it adds up to what was consumed."""
    manager = BudgetManager(clock=lambda: 5.0)
    manager.register_agent("a", max_tokens=1_000)
    manager.register_agent("b", max_tokens=1_000)
    manager.ledger.record("a", 30, "first")
    hold = manager.reserve("a", 100)
    hold.settle(100, final=False)
    manager.ledger.record("b", 7)
    hold.settle(60)
    manager.reserve("a", 10).void()
    assert manager.ledger.history("a") == [
        LedgerEntry("a", 30, 5.0, "first"),
        LedgerEntry("a", 100, 5.0, ""),
        LedgerEntry("a", -40, 5.0, ""),
    ]
    assert len(manager.ledger.history()) == 4
    total = sum(entry.tokens for entry in manager.ledger.history())
    assert total == sum(account.consumed for account in manager.accounts().values())


def test_the_managers_ledger_is_not_adjusted_by_hand() -> None:
    """Allocation comes from contracts and top-ups; the error names what to call."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    before = manager.statement()
    with pytest.raises(TBCError, match=r"manager\.top_up\('a', tokens\)"):
        manager.ledger.adjust_allocation("a", 50)
    with pytest.raises(TBCError, match=r"top_up"):
        manager.ledger.adjust_allocation("a", -50)
    with pytest.raises(TBCError, match=r"manager\.register_agent\('b', max_tokens=5\)"):
        manager.ledger.register("b", 5)
    assert manager.statement() == before


def test_the_managers_contracts_are_read_only() -> None:
    """Neither the mapping nor a contract in it can be changed behind the books' back."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=100)
    contracts: Any = manager.contracts
    with pytest.raises(TypeError):
        contracts["b"] = BudgetContract("b")
    with pytest.raises(AttributeError):
        contracts["a"].max_tokens = 7


# --- Ledger and Reallocator alone -----------------------------------------------------------------


def test_a_ledger_alone() -> None:
    """Registered, recorded, adjusted by hand, and read back."""
    _, ledger = two_agents(boss=400)
    ledger.record("helper", 1_200, note="more than it had")
    ledger.adjust_allocation("boss", -300)
    assert ledger.snapshot() == {
        "boss": {"allocated": 700, "consumed": 400, "remaining": 300},
        "helper": {"allocated": 1_000, "consumed": 1_200, "remaining": -200},
    }
    last = ledger.history("helper")[-1]
    assert (last.agent_name, last.tokens, last.note) == ("helper", 1_200, "more than it had")
    assert len(ledger.history()) == 3
    for unknown in (ledger.consumed, ledger.allocated, ledger.remaining):
        with pytest.raises(KeyError, match="Did you mean 'boss'"):
            unknown("bos")


@pytest.mark.parametrize("bad", [-1, 2**40 + 1, 1.5, float("nan"), float("inf"), True, "7", None])
def test_bad_numbers_leave_a_ledger_alone(bad: Any) -> None:
    """Negative, NaN, bool, text and the like are refused by name, and nothing changes."""
    contracts, ledger = two_agents(boss=950)
    before, history = ledger.snapshot(), ledger.history()
    for call in (
        lambda: ledger.record("boss", bad),
        lambda: ledger.register("boss", bad),
        lambda: ledger.register("boss 2", bad),
        lambda: Reallocator(contracts, ledger).reallocate("boss", bad),
        lambda: ledger.adjust_allocation("boss", -1_001 if bad == -1 else bad),
    ):
        with pytest.raises((TypeError, ValueError), match="boss"):
            call()
    assert (ledger.snapshot(), ledger.history()) == (before, history)


def test_registering_in_a_ledger_twice() -> None:
    """The same allocation again changes nothing, after a reallocation too; another is refused."""
    contracts, ledger = two_agents(boss=950)
    Reallocator(contracts, ledger).reallocate("boss", 300)
    before = ledger.snapshot()
    ledger.register("helper", 1_000)
    with pytest.raises(ContractConflictError, match=r"1,000, not 1,200.*adjust_allocation"):
        ledger.register("helper", 1_200)
    assert ledger.snapshot() == before


def test_a_reallocator_alone() -> None:
    """It moves what donors can give, in order, and says how much that was."""
    contracts, ledger = two_agents(boss=950, helper=850)
    contracts["idle"] = BudgetContract("idle", priority=1, max_tokens=500, min_reserve=400)
    contracts["peer"] = BudgetContract("peer", priority=3, max_tokens=500, min_reserve=480)
    contracts["better"] = BudgetContract("better", priority=4, max_tokens=500)
    contracts["nowhere"] = BudgetContract("nowhere", max_tokens=500)  # not in the ledger
    for name in ("idle", "peer", "better"):
        ledger.register(name, 500)
    reallocator = Reallocator(contracts, ledger)
    assert reallocator.find_donors(exclude="boss") == ["idle", "helper", "peer", "better"]
    assert reallocator.reallocate("boss", shortfall=0) == 0
    assert reallocator.reallocate("boss", shortfall=120) == 120
    assert (ledger.remaining("idle"), ledger.remaining("helper")) == (400, 130)
    assert reallocator.reallocate("boss", shortfall=300) == 50
    assert ledger.snapshot()["boss"]["allocated"] == 1_170
    assert (ledger.remaining("helper"), ledger.remaining("peer")) == (100, 480)
    assert ledger.remaining("better") == 500


def test_a_reallocator_can_be_told_to_move_all_or_nothing() -> None:
    """With `whole=True` a shortfall that cannot be covered moves nothing."""
    contracts, ledger = two_agents(boss=950, helper=850)
    before = ledger.snapshot()
    assert Reallocator(contracts, ledger).reallocate("boss", 300, whole=True) == 0
    assert ledger.snapshot() == before
    assert Reallocator(contracts, ledger).reallocate("boss", 50, whole=True) == 50


def test_a_reallocator_tells_whom_it_does_not_know() -> None:
    """Neither an unknown agent nor one that is not in the ledger moves anything."""
    contracts, ledger = two_agents(boss=950)
    contracts["late"] = BudgetContract("late", priority=3)
    before = ledger.snapshot()
    for name, told in (("bos", "Did you mean 'boss'"), ("late", r"ledger\.register\('late'")):
        with pytest.raises(KeyError, match=told):
            Reallocator(contracts, ledger).reallocate(name, 10)
    assert ledger.snapshot() == before


def test_a_reallocator_is_not_put_on_a_managers_books() -> None:
    """A manager reallocates by itself; the error says so."""
    manager = BudgetManager()
    wrong: Any
    for wrong in (manager.ledger, {}):
        with pytest.raises(ConfigurationError, match="reallocates by itself"):
            Reallocator(manager.contracts, wrong)


def test_ledger_and_reallocator_are_safe_for_threads() -> None:
    """16 threads record and reallocate: nothing is lost or minted, no reserve is touched."""
    contracts, ledger = two_agents()
    reallocator = Reallocator(contracts, ledger)
    start = threading.Barrier(16)

    def work() -> int:
        start.wait()
        moved = 0
        for _ in range(50):
            ledger.record("helper", 1)
            moved += reallocator.reallocate("boss", 3)
        return moved

    with ThreadPoolExecutor(16) as threads:
        moved = sum(threads.map(lambda _: work(), range(16)))
    assert ledger.consumed("helper") == 800
    assert len(ledger.history("helper")) == 801
    assert ledger.allocated("boss") == 1_000 + moved
    assert ledger.allocated("helper") == 1_000 - moved
    assert moved <= 900


# --- the wrappers of its 0.3 releases -------------------------------------------------------------


def test_wrapped_nodes() -> None:
    """Nodes that write their usage into their update are charged by it."""
    governor = TBCGraphGovernor()
    governor.register("researcher", priority=3, max_tokens=4000)
    governor.register("critic", priority=1, max_tokens=2000)
    updates: dict[str, dict[str, Any]] = {
        "researcher": {"notes": "found", "tokens_used": 500, "sure": 0.5},
        "critic": {"review": "good", "tokens_used": 200.0},
    }
    for name, update in updates.items():
        node: Any = governor.wrap(name, lambda state, update=update: update, "tokens_used", "sure")
        assert node({"question": "why"}) is update
    report = governor.report()
    assert [report[name]["consumed"] for name in updates] == [500, 200]
    assert governor.manager.accounts()["researcher"].confidence == 0.5


@pytest.mark.parametrize("written", [True, "7", None, float("nan"), -3, 10**400])
def test_a_node_that_writes_nonsense_is_an_estimate(written: Any) -> None:
    """What is no number of tokens is not charged; an estimate that says so is."""
    manager = BudgetManager()
    manager.register_agent("a", max_tokens=1_000)
    node: Any = govern_node(manager, "a", lambda state: {"tokens_used": written}, "tokens_used")
    node({"question": "why"})
    account = manager.accounts()["a"]
    assert account.consumed == account.unmeasured > 1


def test_wrapped_task_runners() -> None:
    """A function that runs a task is charged by what `usage_fn` reads in its result."""

    class Output:
        total_tokens = 444

    governor = TBCCrewGovernor(BudgetManager())
    governor.register("writer", max_tokens=1000, confidence_threshold=0.7)
    run: Any = governor.wrap(
        "writer",
        lambda task, extra=None: Output(),
        usage_fn=lambda output: output.total_tokens,
        confidence_fn=lambda output: 0.9,
    )
    assert isinstance(run("a task", extra="deeply"), Output)
    assert governor.report()["writer"]["consumed"] == 444
    with pytest.raises(BudgetExceededError):
        run("another")


def test_wrappers_tell_whom_they_do_not_know() -> None:
    """A name without a contract is told of when the function is wrapped."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=1000)
    wrap: Any
    for wrap in (govern_node, govern_agent):
        with pytest.raises(UnknownAgentError, match="Did you mean 'writer'"):
            wrap(manager, "witer", lambda state: state)


def test_a_tracer_is_not_taken_for_a_listener() -> None:
    """`telemetry=` wants a function; a tracer object is refused with what to write instead."""
    refused = "listener must be a function of"
    with pytest.raises(ConfigurationError, match=refused):
        BudgetManager(telemetry=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=refused):
        BudgetManager().add_listener("x")  # type: ignore[arg-type]
