"""The gate: a call is held for, or it is not sent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.calls import Call
from tbcontracts.exhaustion import policy_of, what_now
from tbcontracts.sizing import CallShape
from tbcontracts_crewai import errors
from tbcontracts_crewai.asking import AskFn, Asking
from tbcontracts_crewai.frames import Frame
from tbcontracts_crewai.instead import Instead
from tbcontracts_crewai.kickoffs import Kickoff, Place
from tbcontracts_crewai.open_calls import OpenCall

_log = logging.getLogger("tbcontracts")


class Gate:
    """Decides on the calls of one run.

    Args:
        manager: Whose books.
        place: Returns where in the run this is.
        held_around: Returns whether a block around this one holds for the call with this id.
        ask_fn: Who is asked for more budget where a contract says so; None asks at the terminal.
        instead: What is done instead of refused calls.
    """

    def __init__(
        self,
        manager: BudgetManager,
        place: Callable[[], Place],
        held_around: Callable[[str], bool],
        ask_fn: AskFn | None,
        instead: Instead,
    ) -> None:
        self._manager = manager
        self._place = place
        self._held_around = held_around
        self._asking = Asking(manager, ask_fn)
        self._instead = instead

    def admit(
        self,
        call_id: str,
        find_account: Callable[[], str | None],
        measure: Callable[[], CallShape],
        frame: Frame | None,
    ) -> OpenCall | None:
        """Return the call with its hold, or None where it may go without one of this run.

        That is so where a block of the same manager around this one holds for it, and in observe
        mode where nothing could be decided.

        Raises:
            CrewBudgetExceededError: It cannot be paid for, or its kickoff was refused before.
            CrewGateError: It could not be decided on.
        """
        place = self._place()
        first = place.kickoff.refusal if place.kickoff is not None else None
        if first is not None:
            errors.raise_stopped(first)
        trouble: Exception
        try:
            if self._held_around(call_id):
                return None
            account = find_account() or place.account
            decided = self._decide(account, measure)
            if not isinstance(decided, BudgetExceededError):
                return OpenCall(decided, frame, place.step)
            trouble = decided
        except Exception as error:
            _log.exception("The budget of a call could not be checked.")
            trouble = error
        if self._manager.settings.enforcement != "observe":
            # Out here, so that the core's error, which names the role, is no context of ours.
            self._stop(trouble, place.kickoff, frame)
        return None

    def _decide(
        self, account: str | None, measure: Callable[[], CallShape]
    ) -> Call | BudgetExceededError:
        """Hold for a call, after asking for budget where that is to be done."""
        shape = measure()

        def hold() -> Call | BudgetExceededError:
            try:
                return self._manager.begin_call(account, shape, note="crewai")
            except BudgetExceededError as error:
                return error

        grants = self._asking.grants
        decided = hold()
        if isinstance(decided, BudgetExceededError):
            policy = policy_of(self._manager.contract_of(decided.agent_name))
            if what_now(policy, decided) == "ask":
                return self._asking.ask(decided, hold, grants)
        return decided

    def _stop(self, trouble: Exception, kickoff: Kickoff | None, frame: Frame | None) -> NoReturn:
        """Keep a call from being sent."""
        if not isinstance(trouble, BudgetExceededError):
            errors.raise_undecided(trouble)
        refusal = errors.as_crew_error(trouble)
        called = None if frame is None else frame.first
        detour = None
        try:
            detour = self._instead.find(trouble, refusal, called)
        except Exception:
            _log.exception("What is done instead of a refused call could not be found.")
        if called is not None and detour is not None:
            called.detour = detour
        elif kickoff is not None and self._is_final(refusal):
            kickoff.refuse(refusal)
        errors.raise_refusal(refusal)

    def _is_final(self, refusal: BudgetExceededError) -> bool:
        """Return whether a refusal ends the kickoff: not where its agent was told to go on."""
        contract = self._manager.contract_of(refusal.agent_name)
        return contract is None or contract.on_exceeded == "raise"
