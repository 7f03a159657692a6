"""What happens when a budget is used up: one piece, used by `govern` and by every integration.

`on_exceeded` of a contract says it: "raise" (the refusal goes to the caller), "end" (finish with
what there is), "ask" (pause, ask somebody for more, go on), or {"fallback": ...} (do something
cheaper instead, which passes the gate like any other call).

Under "end" ordinary holds leave the reserve alone, so that there is something left to finish with:
only the closing call (`manager.closing(name)`) may use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tbcontracts.contract import BudgetContract
from tbcontracts.errors import BudgetExceededError, ConfidenceGateError
from tbcontracts.ids import new_id
from tbcontracts.money import amount_in, micro_usd

if TYPE_CHECKING:
    from decimal import Decimal

    from tbcontracts.manager import BudgetManager

Kind = Literal["raise", "end", "ask", "fallback"]

_MORE_BUDGET_HELPS = frozenset(("budget_exceeded", "fragmented", "reserve_kept"))


class Policy(NamedTuple):
    """What to do at the end of a budget."""

    kind: Kind
    fallback: Any = None
    """What to do instead, where the kind is "fallback"."""


_RAISE = Policy("raise")


def policy_of(contract: BudgetContract | None) -> Policy:
    """Return what a contract says; without a contract the refusal is raised."""
    if contract is None:
        return _RAISE
    value = contract.on_exceeded
    if not isinstance(value, str):
        return Policy("fallback", value["fallback"])
    if value == "end":
        return Policy("end")
    return Policy("ask") if value == "ask" else _RAISE


def what_now(policy: Policy, refusal: BudgetExceededError) -> Kind:
    """Return what to do about a refusal.

    Nobody is asked for budget where budget does not help, and work that is good enough is neither
    asked for nor done in a cheaper way.
    """
    confident = isinstance(refusal, ConfidenceGateError)
    if policy.kind == "ask" and refusal.code not in _MORE_BUDGET_HELPS:
        return "raise"
    if policy.kind == "fallback" and confident:
        return "raise"
    return policy.kind


class BudgetRequest(NamedTuple):
    """What an agent that paused asks for."""

    agent_name: str
    scope: str
    requested: int
    """The hold that was refused, in the unit of the books."""
    available: int
    """What could be reached."""
    lacking: int
    """What would be enough."""
    reason: str
    request_id: str
    """A grant is applied once for each of these, however often it is sent."""
    unit: str = "tokens"
    """What these numbers are: tokens, or "usd" for millionths of a dollar."""


def request_for(refusal: BudgetExceededError, request_id: str | None = None) -> BudgetRequest:
    """Return what to ask for after a refusal.

    Args:
        refusal: Why the agent paused.
        request_id: The name of the request, where it must be the same after a restart.
    """
    return BudgetRequest(
        refusal.agent_name,
        refusal.scope,
        refusal.requested,
        refusal.available,
        refusal.lacking,
        refusal.reason,
        request_id or new_id(),
        refusal.unit,
    )


def grant(manager: BudgetManager, request: BudgetRequest, tokens: int | Decimal) -> None:
    """Give a paused agent what it was granted; the same request again gives nothing more.

    Args:
        manager: Whose books.
        request: What was asked for.
        tokens: What was granted; dollars as a `Decimal`.

    Raises:
        IdempotencyConflictError: This request was granted before, with another number.
        TypeError: `tokens` is no whole number.
        ValueError: `tokens` is out of range.
    """
    what = f"The grant for agent {request.agent_name!r}"
    tokens = amount_in(tokens, manager.settings.unit, what)
    books = manager.scope(request.scope)
    books.top_up(request.agent_name, tokens, key=_key(request.request_id))


async def agrant(manager: BudgetManager, request: BudgetRequest, tokens: int | Decimal) -> None:
    """Give a paused agent what it was granted without blocking the event loop; see `grant`."""
    what = f"The grant for agent {request.agent_name!r}"
    tokens = amount_in(tokens, manager.settings.unit, what)
    books = manager.scope(request.scope)
    await books.atop_up(request.agent_name, tokens, key=_key(request.request_id))


def granted_amount(answer: Any, unit: str, what: str = "The grant") -> int:
    """Return what somebody answered who was asked for budget, in the unit of the books.

    A number is that; dollars may be given as a `Decimal` or as text, "0.50" or "$0.50".

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if unit == "usd" and isinstance(answer, str):
        return micro_usd(answer.strip().removeprefix("$").replace(",", ""), what)
    return amount_in(answer, unit, what)


def was_granted(manager: BudgetManager, request_id: str) -> bool:
    """Return whether a grant for this request is on a manager's books."""
    return manager.resolve(_key(request_id)) is not None


async def awas_granted(manager: BudgetManager, request_id: str) -> bool:
    """Return the same without blocking the event loop."""
    return await manager.aresolve(_key(request_id)) is not None


def _key(request_id: str) -> str:
    return f"grant {request_id}"
