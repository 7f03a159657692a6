"""How good a role's last answer was, for the confidence gate: where the scores of a crew are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from tbcontracts import BudgetManager
from tbcontracts.attribution import nearest
from tbcontracts.errors import ConfigurationError
from tbcontracts.scores import ScoreSource, score_source
from tbcontracts_crewai.roles import normalise

_log = logging.getLogger("tbcontracts")


def guardrail_verdict(_output: Any) -> float | None:
    """Score a role by its tasks' guardrails: 1.0 for work that passed, 0.0 for work sent back.

    Give it as the source of a role: `govern_crew(crew, confidence={"Writer": guardrail_verdict})`.
    """
    return None  # the verdict comes before the output, by an event of its own


class Confidence:
    """Reports scores of finished tasks.

    Args:
        manager: Who is told; the gate stands in its contracts' `confidence_threshold`.
        sources: For each role a function of the `TaskOutput`, the path of a field in the task's
            structured output, or `guardrail_verdict`. It counts before the `confidence_key` of the
            role's contract, which is such a path.

    Raises:
        ConfigurationError: A role has no contract, or sources are no mapping.
        TypeError: A source is neither a function nor a path.
    """

    def __init__(self, manager: BudgetManager, sources: Mapping[str, ScoreSource] | None) -> None:
        self._manager = manager
        self._score: dict[str, Callable[[Any], Any]] = {}
        self._by_verdict: set[str] = set()
        accounts = {normalise(name): name for name in manager.contracts}
        if sources is not None and not isinstance(sources, Mapping):
            msg = f"confidence must be a mapping of roles to scores, not {type(sources).__name__}."
            raise ConfigurationError(msg, remedy='What helps: {"Writer": "confidence"}.')
        for role, source in (sources or {}).items():
            account = accounts.get(normalise(role))
            if account is None:
                near = nearest(normalise(role), accounts)
                hint = f" Did you mean {near!r}?" if near else ""
                msg = f"confidence has a score for {role!r}, which has no contract here.{hint}"
                helps = "What helps: a contract with a confidence_threshold for it."
                raise ConfigurationError(msg, remedy=helps)
            if source is guardrail_verdict:
                self._by_verdict.add(account)
            else:
                of_role = f"confidence of agent {account!r}"
                self._score[account] = _reading(source, score_source(source, of_role))

        for account, contract in manager.contracts.items():
            if contract.confidence_key is not None and account not in self._by_verdict:
                of_role = f"confidence of agent {account!r}"
                source = score_source(contract.confidence_key, of_role)
                self._score.setdefault(account, _reading(contract.confidence_key, source))

    def task_completed(self, account: str | None, output: Any) -> None:
        """Report the score of a finished task. Never raises: the work is paid for."""
        score = self._score.get(account or "")
        if account is None or score is None:
            return
        try:
            self._report(account, score(output))
        except Exception:
            _log.exception("The score of agent %r is not used.", account)

    def judged(self, account: str | None, *, passed: bool) -> None:
        """Report what a guardrail said of a role's work. Never raises."""
        if account is None or account not in self._by_verdict:
            return
        try:
            self._report(account, 1.0 if passed else 0.0)
        except Exception:
            _log.exception("The score of agent %r is not used.", account)

    def _report(self, account: str, score: Any) -> None:
        if score is None:
            self._manager.warn_once(
                f"no score {account}",
                f"A task of {account!r} was finished without a score: neither the function nor the "
                "field that confidence= names gave one. The confidence gate stays open.",
            )
        else:
            self._manager.report_confidence(account, score)


def _reading(source: ScoreSource, score: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function of a task's output; a path is looked up in what is structured of it."""
    if not isinstance(source, str):
        return score

    def field(output: Any) -> Any:
        structured = getattr(output, "pydantic", None)
        return score(structured if structured is not None else getattr(output, "json_dict", None))

    return field
