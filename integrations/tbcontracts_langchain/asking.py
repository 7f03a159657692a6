"""Pausing an agent to ask somebody for more budget, and taking the answer.

When the agent resumes, LangGraph runs its node again from the start and hands the answers out in
the order in which they were asked for. A grant is named by its place in that order, and is put on
the books once.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from langgraph.config import get_config
from langgraph.types import interrupt

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.exhaustion import grant, granted_amount, request_for

_CHECKPOINTER = "__pregel_checkpointer"
_SCRATCHPAD = "__pregel_scratchpad"
_TASK_ID = "__pregel_task_id"
_TASKS_MAX = 10_000


class _Places:
    """How many questions each task has asked since its node was entered last."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[object, int]] = {}
        self._lock = threading.Lock()

    def next(self, task: str, entry: object) -> int:
        """Return the place of a question.

        Args:
            task: The task that asks.
            entry: What is new each time that its node is entered.
        """
        with self._lock:
            known, place = self._asked.pop(task, (None, 0))
            place = place if known is entry else 0
            self._asked[task] = (entry, place + 1)
            while len(self._asked) > _TASKS_MAX:
                del self._asked[next(iter(self._asked))]
        return place


_places = _Places()


def ask(manager: BudgetManager, refusal: BudgetExceededError) -> None:
    """Pause the agent until somebody grants budget, and put the grant on the books.

    An answer that is no amount is asked about again, because it cannot be taken back.

    Args:
        manager: Whose books.
        refusal: Why the agent pauses.

    Raises:
        GraphInterrupt: The agent pauses now; LangGraph catches it.
        BudgetExceededError: Nothing was granted, or nobody can be asked.
    """
    place = _configurable()
    if place.get(_CHECKPOINTER) in (None, False):
        raise _cannot_ask(refusal) from None
    task = str(place.get(_TASK_ID))
    number = _places.next(task, place.get(_SCRATCHPAD))
    request = request_for(refusal, f"{task} middleware {number}")
    question: dict[str, Any] = {"kind": "budget_request", **request._asdict()}
    while True:
        answer = interrupt(question)
        if answer is None or answer is False or answer == 0:
            raise refusal
        try:
            amount = granted_amount(answer, request.unit)
        except (TypeError, ValueError) as error:
            what = "a number of tokens" if request.unit == "tokens" else 'dollars, such as "0.50"'
            problem = f"{error} Resume with {what}, or 0 to refuse."
            question = {**question, "problem": problem}
            continue
        grant(manager, request, amount)
        return


def _configurable() -> Mapping[str, Any]:
    try:
        return get_config().get("configurable") or {}
    except RuntimeError:  # not in a graph, or on Python 3.10 in a node that is awaited
        return {}


def _cannot_ask(refusal: BudgetExceededError) -> BudgetExceededError:
    """Return the refusal, and why nobody was asked."""
    remedy = (
        f'{refusal.remedy} on_exceeded="ask" pauses the agent, which needs a checkpointer and a '
        "thread_id (create_agent(..., checkpointer=...)), and Python 3.11 where it is awaited."
    )
    return type(refusal)(**{**refusal.facts(), "remedy": remedy})
