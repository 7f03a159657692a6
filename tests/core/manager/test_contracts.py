"""Contracts of a manager: changed, registered, and their confidence gate."""

from __future__ import annotations

import pytest
from tests.core.manager.team import conserved, small_team

from tbcontracts import BudgetManager, ConfidenceGateError, ContractConflictError


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
