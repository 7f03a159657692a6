"""The callback handler of a graph: where the contract says "ask", it pauses the graph at the call.

The pause stands in the place of the refused call, before anything is sent. When the graph resumes,
LangGraph runs the node again from its start, and hands the answers out in the order of the pauses.
So a pause is named by its place (the task, and the number of the call in it): at the same place
a grant that is on the books already is not given again, and its answer is not handed to the next
pause that the node makes.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from langgraph.config import get_config
from langgraph.types import interrupt

from tbcontracts import BudgetExceededError, BudgetManager
from tbcontracts.exhaustion import (
    BudgetRequest,
    Policy,
    agrant,
    awas_granted,
    grant,
    granted_amount,
    policy_of,
    request_for,
    was_granted,
    what_now,
)
from tbcontracts_langchain import BudgetCallbackHandler
from tbcontracts_langchain.gate import BudgetGate
from tbcontracts_langchain.handler import ScopeBy
from tbcontracts_langchain.model_calls import ModelCalls, Start

T = TypeVar("T")

_TASKS_MAX = 100_000
_NODE_TAG = "graph:step:"
_CHECKPOINTER = "__pregel_checkpointer"
_SCRATCHPAD = "__pregel_scratchpad"


class _Places:
    """How many calls each task has begun since its node was entered last."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._lock = threading.Lock()

    def enter(self, task: str) -> None:
        """Begin a node anew, so that its first call has the first place again."""
        with self._lock:
            self._calls.pop(task, None)

    def next(self, task: str) -> int:
        """Return the place of the call that begins now."""
        with self._lock:
            if len(self._calls) >= _TASKS_MAX:
                self._calls.pop(next(iter(self._calls)))
            place = self._calls.get(task, 0)
            self._calls[task] = place + 1
        return place


_places: WeakKeyDictionary[object, _Places] = WeakKeyDictionary()


class GraphBudgetHandler(BudgetCallbackHandler):
    """Keeps a graph to its contracts, and can pause it to ask for budget.

    Args:
        manager: Whose contracts and books.
        scope_by: How a run's scope is found; see `BudgetCallbackHandler`.
        policies: What `budgeted` nodes say about agents, where that is not what the contract says.
    """

    def __init__(
        self,
        manager: BudgetManager,
        *,
        scope_by: ScopeBy = None,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        super().__init__(manager, scope_by=scope_by)
        self.policies = dict(policies or {})
        self._places = _places.setdefault(manager.identity[0], _Places())

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note where a node begins, and what its run is called."""
        if any(tag.startswith(_NODE_TAG) for tag in kwargs.get("tags") or ()):
            self.enter(metadata)
        super().on_chain_start(
            serialized,
            inputs,
            run_id=run_id,
            parent_run_id=parent_run_id,
            metadata=metadata,
            **kwargs,
        )

    def gate(self) -> GraphBudgetGate:
        """Return the handler that goes before this one where the store is behind a network."""
        self._has_gate = True
        return GraphBudgetGate(self, self._model_calls)

    def _hold(self, start: Start) -> None:
        """Hold budget for a call, ask for it, or refuse the call."""
        self.until_paid(partial(super()._hold, start), start.metadata)

    def books(self, metadata: Mapping[str, Any]) -> BudgetManager:
        """Return the manager on the books of a run."""
        return self._model_calls.manager_for(metadata)

    def enter(self, metadata: Mapping[str, Any] | None) -> None:
        """Note that a node is run from its start."""
        task = _task_of(metadata)
        if task is not None:
            self._places.enter(task)

    def until_paid(self, begin: Callable[[], T], metadata: Mapping[str, Any] | None) -> T:
        """Begin a call; where it is refused and the policy says so, ask until it is paid for.

        Raises:
            BudgetExceededError: It is refused, and nobody is asked or somebody said no.
        """
        task = _task_of(metadata)
        if task is None:
            return begin()
        place = f"{task} {self._places.next(task)}"
        asked = self._answered_before(place, metadata or {})
        outcome = _tried(begin)
        while isinstance(outcome, BudgetExceededError):
            grant(self.manager, *self._granted(outcome, f"{place} {asked}"))
            asked += 1
            outcome = _tried(begin)
        return outcome

    async def auntil_paid(
        self, begin: Callable[[], Awaitable[T]], metadata: Mapping[str, Any] | None
    ) -> T:
        """Begin a call without blocking the event loop; see `until_paid`."""
        task = _task_of(metadata)
        if task is None:
            return await begin()
        place = f"{task} {self._places.next(task)}"
        asked = await self._aanswered_before(place, metadata or {})
        outcome = await _atried(begin)
        while isinstance(outcome, BudgetExceededError):
            granted = self._granted(outcome, f"{place} {asked}")
            await agrant(self.manager, *granted)
            asked += 1
            outcome = await _atried(begin)
        return outcome

    def _granted(self, refusal: BudgetExceededError, request_id: str) -> tuple[BudgetRequest, int]:
        """Ask for what was refused; return what was asked and what was granted.

        Raises:
            BudgetExceededError: The refusal, where nobody is asked or somebody said no.
        """
        policy = self.policies.get(refusal.agent_name)
        if policy is None:
            policy = policy_of(self.manager.contract_of(refusal.agent_name))
        if policy.kind != "ask" or what_now(policy, refusal) != "ask":
            raise refusal
        if not _can_pause():
            raise _cannot_ask(refusal)
        request = request_for(refusal, request_id)
        amount = _ask(request)
        if not amount:
            raise refusal
        return request, amount

    def _answered_before(self, place: str, metadata: Mapping[str, Any]) -> int:
        """Take the answers that were given at this place before; return how many there are."""
        asked = 0
        if _has_answers():
            books = self.books(metadata)
            while was_granted(books, f"{place} {asked}"):
                interrupt(None)
                asked += 1
        return asked

    async def _aanswered_before(self, place: str, metadata: Mapping[str, Any]) -> int:
        """Do the same without blocking the event loop."""
        asked = 0
        if _has_answers():
            books = self.books(metadata)
            while await awas_granted(books, f"{place} {asked}"):
                interrupt(None)
                asked += 1
        return asked


class GraphBudgetGate(BudgetGate):
    """Holds for a graph's calls without blocking the event loop, and pauses it like its guard.

    Args:
        guard: The handler that goes after it.
        calls: The calls that both share.
    """

    def __init__(self, guard: GraphBudgetHandler, calls: ModelCalls) -> None:
        super().__init__(calls)
        self.guard = guard

    async def _hold(self, start: Start) -> None:
        """Hold budget for a call, ask for it, or refuse the call."""
        await self.guard.auntil_paid(partial(super()._hold, start), start.metadata)


def _tried(begin: Callable[[], T]) -> T | BudgetExceededError:
    """Begin a call; return the refusal if it is refused."""
    try:
        return begin()
    except BudgetExceededError as refusal:
        return refusal


async def _atried(begin: Callable[[], Awaitable[T]]) -> T | BudgetExceededError:
    """Begin a call; return the refusal if it is refused."""
    try:
        return await begin()
    except BudgetExceededError as refusal:
        return refusal


def _task_of(metadata: Mapping[str, Any] | None) -> str | None:
    """Return the id of the task that a run is part of: the last part of its namespace."""
    namespace = (metadata or {}).get("langgraph_checkpoint_ns")
    return namespace.rpartition(":")[2] or None if isinstance(namespace, str) else None


def _configurable() -> Mapping[str, Any]:
    try:
        return get_config().get("configurable") or {}
    except RuntimeError:  # not inside a graph, or on a thread that knows nothing of it
        return {}


def _can_pause() -> bool:
    """Return whether the graph keeps checkpoints, without which nothing resumes."""
    return _configurable().get(_CHECKPOINTER) not in (None, False)


def _has_answers() -> bool:
    """Return whether this task resumes with answers that it used before."""
    scratchpad = _configurable().get(_SCRATCHPAD)
    return bool(getattr(scratchpad, "resume", None))


def _ask(request: BudgetRequest) -> int:
    """Pause the graph until somebody grants something; 0 is a refusal.

    An answer that is no amount is asked about again, because it cannot be taken back.
    """
    question = {"kind": "budget_request", **request._asdict()}
    while True:
        answer = interrupt(question)
        if answer is None or answer is False:
            return 0
        try:
            return granted_amount(answer, request.unit)
        except (TypeError, ValueError) as error:
            what = "a number of tokens" if request.unit == "tokens" else 'dollars, such as "0.50"'
            question = {**question, "problem": f"{error} Resume with {what}."}


def _cannot_ask(refusal: BudgetExceededError) -> BudgetExceededError:
    """Return the refusal, and why nobody was asked."""
    remedy = (
        f'{refusal.remedy} on_exceeded="ask" pauses the graph: that needs a checkpointer '
        "(compile(checkpointer=...)) and a call in the node's own context, not on a plain thread."
    )
    return type(refusal)(**{**refusal.facts(), "remedy": remedy})


def handler_in(callbacks: Any, manager: BudgetManager) -> BudgetCallbackHandler | None:
    """Return the handler of a manager that a run has already, on whichever of its books."""
    return next((found for found in _handlers(callbacks) if _is_of(found, manager)), None)


def with_handler(callbacks: Any, handler: GraphBudgetHandler) -> Any:
    """Return a run's callbacks with a handler in the place of those of the same manager."""
    if callbacks is None or isinstance(callbacks, (list, tuple)):
        return _replaced(callbacks or (), handler)
    copied = callbacks.copy()
    copied.handlers = _replaced(copied.handlers, handler)
    copied.inheritable_handlers = _replaced(copied.inheritable_handlers, handler)
    return copied


def _handlers(callbacks: Any) -> Iterable[Any]:
    if callbacks is None or isinstance(callbacks, (list, tuple)):
        return callbacks or ()
    return getattr(callbacks, "handlers", ())


def _replaced(handlers: Iterable[Any], handler: GraphBudgetHandler) -> list[Any]:
    others = [other for other in handlers if not _is_of(_guard_of(other), handler.manager)]
    return [*handler.with_gate(), *others]


def _guard_of(handler: Any) -> Any:
    """Return the handler that a gate goes before; any other handler itself."""
    return handler.guard if isinstance(handler, GraphBudgetGate) else handler


def _is_of(handler: Any, manager: BudgetManager) -> bool:
    return isinstance(handler, BudgetCallbackHandler) and handler.manager.is_view_of(manager)
