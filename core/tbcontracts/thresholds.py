"""Warnings before the end: told once, when an agent has used a given share of its budget.

The share is `consumed / allocated`: what was really used, of what the agent has now. Holds do not
count, because most of what they set aside comes back. It works from journal entries, on the thread
of the listeners: it can neither break nor delay a call.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tbcontracts.contract import BudgetContract
from tbcontracts.events import JournalEntry
from tbcontracts.listeners import check_plain
from tbcontracts.money import figure, said

MARGIN = 0.05
"""How far below a threshold an agent must come before passing it again is news."""
_ACCOUNTS_MAX = 20_000
_log = logging.getLogger("tbcontracts")


class ThresholdPassed(NamedTuple):
    """An agent has used a share of its budget that was to be told."""

    scope: str
    agent: str
    threshold: float
    """The share that was passed, of those in `warn_at`."""
    consumed: int
    """What it used, in the manager's unit."""
    allocated: int
    """What it has in all, with what it borrowed and without what it lent."""
    unit: str
    """The manager's unit."""

    @property
    def share(self) -> float:
        """How much of its budget it used; infinite where it has none."""
        return _share(self.consumed, self.allocated)

    def __str__(self) -> str:
        """Return it as a sentence, for logs and messages."""
        part = "" if self.allocated == 0 else f" ({self.share:.0%})"
        used, budget = figure(self.consumed, self.unit), said(self.allocated, self.unit)
        return (
            f"Agent {self.agent!r} has used {used} of {budget}{part} in scope {self.scope!r}: "
            f"it passed {self.threshold:.0%}."
        )


class _Watched:
    """What is known of an account, from the last entry that spoke of it."""

    __slots__ = ("allocated", "consumed", "finished", "passed", "when")

    def __init__(self) -> None:
        self.allocated = 0
        self.consumed = 0
        self.passed = 0.0  # the highest threshold that was told
        self.finished = False
        self.when: tuple[float, int] = (-math.inf, 0)


class Thresholds:
    """A listener that tells of thresholds which were passed.

    Args:
        at: The shares, lowest first, of those whose contract has none of its own.
        contract_in: Returns the contract of an agent in a scope, if it has one.
        unit: What the amounts are counted in.
    """

    def __init__(
        self,
        at: Sequence[float],
        contract_in: Callable[[str, str], BudgetContract | None],
        unit: str,
    ) -> None:
        self._for_all = at
        self._contract_in = contract_in
        self._unit = unit
        self._watched: OrderedDict[tuple[str, str], _Watched] = OrderedDict()
        self._told: tuple[Callable[[ThresholdPassed], object], ...] = ()
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread

    def add(self, function: Callable[[ThresholdPassed], object]) -> Callable[[], None]:
        """Have a function told, too; returns one that takes it away again.

        Raises:
            TypeError: It cannot be called, or would have to be awaited.
        """
        if not callable(function):
            msg = f"on_threshold takes a function, not {type(function).__name__}."
            raise TypeError(msg)
        check_plain(function, "A function given to on_threshold")
        with self._lock:
            self._told = (*self._told, function)

        def remove() -> None:
            with self._lock:
                kept = list(self._told)
                if function in kept:
                    kept.remove(function)
                self._told = tuple(kept)

        return remove

    def __call__(self, scope: str, entry: JournalEntry) -> None:
        """Look at an entry: at its agent, and at those who gave to it.

        An older entry that comes late, as from another thread, says nothing of what is now.
        """
        if entry.agent is None:
            return
        for donor, amount in entry.moves:
            lender = self._watched.get((scope, donor)) if donor is not None else None
            if donor is not None and lender is not None and entry.when > lender.when:
                lender.allocated -= amount
                self._look(scope, donor, lender)
        if self._contract_in(scope, entry.agent) is None:
            return
        account = self._account(scope, entry.agent)
        if entry.when <= account.when:
            return
        account.when = entry.when
        account.allocated, account.consumed = entry.allocated, entry.consumed
        if entry.kind in ("finished", "topped_up", "contract_changed"):
            # A finished agent has what it used and no more, which is no news.
            account.finished = entry.kind == "finished"
        self._look(scope, entry.agent, account)

    def _at(self, scope: str, agent: str) -> Sequence[float]:
        """Return the shares of an agent, lowest first; none without a contract."""
        contract = self._contract_in(scope, agent)
        if contract is None:
            return ()
        return self._for_all if contract.warn_at is None else contract.warn_at

    def _account(self, scope: str, agent: str) -> _Watched:
        """Return what is known of an account; of too many the longest untouched is forgotten."""
        account = self._watched.setdefault((scope, agent), _Watched())
        self._watched.move_to_end((scope, agent))
        while len(self._watched) > _ACCOUNTS_MAX:
            self._watched.popitem(last=False)
        return account

    def _look(self, scope: str, agent: str, account: _Watched) -> None:
        """Tell each threshold that was passed; forget those that it is clearly below again."""
        if account.finished:
            return
        at = self._at(scope, agent)
        share = _share(account.consumed, account.allocated)
        while account.passed and share < account.passed - MARGIN:
            account.passed = max((one for one in at if one < account.passed), default=0.0)
        for threshold in at:
            if account.passed < threshold <= share:
                account.passed = threshold
                self._tell(
                    ThresholdPassed(
                        scope, agent, threshold, account.consumed, account.allocated, self._unit
                    )
                )

    def _tell(self, passed: ThresholdPassed) -> None:
        """Write it to the log, and call each function; one that fails stops no other."""
        _log.warning("%s", passed)
        for function in self._told:
            _tell_one(function, passed)


def _tell_one(function: Callable[[ThresholdPassed], object], passed: ThresholdPassed) -> None:
    """Tell one function; one that fails stops no other."""
    try:
        function(passed)
    except Exception:
        _log.exception("A function given to on_threshold failed: %s", passed)


def _share(consumed: int, allocated: int) -> float:
    """Return how much of a budget was used."""
    if allocated > 0:
        return consumed / allocated
    return math.inf if consumed > 0 else 0.0
