"""The confidence gate: no more money for work that is already good enough."""

from __future__ import annotations

from tbcontracts.checks import check_score
from tbcontracts.contract import BudgetContract


class ConfidenceGate:
    """Decides by an agent's last score whether its next call is worth paying for."""

    @staticmethod
    def allow_further_retrieval(contract: BudgetContract, confidence: float | None) -> bool:
        """Return whether the agent may go on.

        Args:
            contract: The agent's contract; without a `confidence_threshold` the gate is open.
            confidence: The last score, 0..1; None means that there is none, and the gate is open.

        Raises:
            TypeError: The score is no number.
            ValueError: The score is NaN or outside 0..1.
        """
        if confidence is None:
            return True
        score = check_score(confidence, f"confidence of agent {contract.agent_name!r}")
        return contract.confidence_threshold is None or score < contract.confidence_threshold
