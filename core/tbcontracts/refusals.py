"""Refusals in words: what happened, to whom, which limit and value, and what would help."""

from __future__ import annotations

from collections.abc import Mapping

from tbcontracts.attribution import nearest
from tbcontracts.checks import AMOUNT_MAX
from tbcontracts.commands import Denied, Posted
from tbcontracts.contract import BudgetContract
from tbcontracts.errors import BudgetExceededError, ConfidenceGateError
from tbcontracts.money import as_code, figure, said
from tbcontracts.sizing import BEYOND, OUTGROWN, Unbounded
from tbcontracts.usage import Usage

UNATTRIBUTED = "(unattributed)"
"""The line of calls that name no agent."""


def refusal(
    denied: Denied,
    scope: str,
    contract: BudgetContract | None = None,
    sizing: str = "caller",
    unit: str = "tokens",
    *,
    kept: int = 0,
) -> BudgetExceededError:
    """Turn a store's denial into the error that the caller gets.

    Args:
        denied: The store's reply.
        scope: The books that refused.
        contract: The agent's contract as this process has it.
        sizing: How the size of the hold was found.
        unit: What the books are in.
        kept: What the hold had to leave: a reserve, for the closing call.
    """
    agent, requested, available = denied.agent, denied.requested, denied.available
    if denied.code == "confident" and denied.score is not None and denied.threshold is not None:
        return ConfidenceGateError(
            agent,
            requested,
            available,
            score=denied.score,
            threshold=denied.threshold,
            scope=scope,
            lacking=denied.lacking,
            unit=unit,
        )
    reason, remedy = _words(denied, scope, contract, sizing, unit, kept)
    return BudgetExceededError(
        agent,
        requested,
        available,
        code=denied.code,
        reason=reason,
        scope=scope,
        remedy=remedy,
        lacking=denied.lacking,
        unit=unit,
    )


def _words(
    denied: Denied,
    scope: str,
    contract: BudgetContract | None,
    sizing: str,
    unit: str,
    kept: int,
) -> tuple[str, str]:
    """Return the reason and the remedy for each code."""
    agent, requested = denied.agent, denied.requested
    available = figure(denied.available, unit)
    asked = f"Agent {agent!r} asked for {said(requested, unit)}"
    if sizing not in ("caller", OUTGROWN):
        asked += f" ({_SIZED.get(sizing, f'input plus {sizing}')})"
    top_up = _top_up(agent, max(1, denied.lacking), unit)
    if denied.code == "scope_closed":
        return f"{asked}, but scope {scope!r} is closed.", "What helps: another scope."
    if denied.code == "reserve_kept":
        reason = (
            f"{asked}; the {available} it can reach in scope {scope!r} leave its reserve alone, "
            "which is kept for its closing call."
        )
        return reason, f"What helps: {top_up}, or manager.closing({agent!r}) around it."
    if denied.code == "fragmented":
        reason = (
            f"{asked}; the 64 largest gifts it may take in scope {scope!r} bring it to "
            f"{available}, and more donors are not asked for one hold."
        )
        return reason, f"What helps: {top_up}, or fewer agents with more budget each."
    if sizing == OUTGROWN:
        reason = (
            f"An answer to agent {agent!r} that is still being written has passed the output cap "
            f"it was held for. {asked} more, and {available} can be reached in scope {scope!r}: "
            "it is stopped, and charged for its input and what arrived."
        )
        return reason, f"What helps: {top_up}, or a provider that keeps the cap it is given."
    if denied.code == "uphill":
        reason = f"{asked} from an agent with a higher priority; budget never flows uphill."
        return reason, "What helps: a donor of lower or equal priority, or manager.top_up."
    reason = (
        f"{asked}; {available} can be reached in scope {scope!r}, counting its own, the pool's "
        f"and what lower or equal priorities can lend.{_taken_off(denied, unit, kept)}"
    )
    if contract is not None and contract.max_tokens < requested:
        if sizing != "caller":
            reason += " This one hold is more than its whole budget."
        most = contract.field_names[0]
        enough = figure(contract.max_tokens + denied.lacking, unit)
        first = f"{most} of at least {enough} for {agent!r} (it has "
        remedy = f"What helps: {top_up}, or {first}{figure(contract.max_tokens, unit)})."
    else:
        most = "max_usd" if unit == "usd" else "max_tokens"
        remedy = f"What helps: {top_up}, a higher {most}, or another scope."
    return reason, f"{remedy} {_SMALLER.get(sizing, '')}".strip()


def _taken_off(denied: Denied, unit: str, kept: int) -> str:
    """Say what of a budget is not for the hold that was asked for."""
    text = f" Its reserve, {figure(kept, unit)}, is kept for its closing call." if kept else ""
    owed = denied.lacking - denied.requested - kept
    if owed > 0:
        are = "is" if unit == "usd" else "are"
        text += f" {figure(owed, unit)} {are} overdraft, which is paid first."
    return text


_SIZED = {
    BEYOND: "beyond the hold that is there for its call: input and output cap are larger",
    "95 % of recent calls": "input plus what 95 % of its recent answers stayed within",
    "cold start": "input plus a first guess, as none of its answers is known yet",
    "bound: output cap of the call": "input in bytes plus output cap of the call: strict mode",
    "bound: max_output_tokens of the contract": (
        "input in bytes plus max_output_tokens of the contract: strict mode"
    ),
}
"""How a size was found, where its name alone does not tell."""
_CAP = "max_tokens on the model, or max_output_tokens in the contract"
_SMALLER = {
    "95 % of recent calls": f"A cap on the answer ({_CAP}) makes the hold smaller.",
    "cold start": f"A cap on the answer ({_CAP}) replaces the guess.",
    "bound: output cap of the call": "A lower max_tokens on the model makes the hold smaller.",
    "max_output_tokens of the contract": "A lower max_output_tokens makes the hold smaller.",
    "bound: max_output_tokens of the contract": "A lower max_output_tokens makes it smaller.",
}
"""What makes a hold smaller, where that is not said by the name of its size."""


def _top_up(agent: str, amount: int, unit: str) -> str:
    """Return the top-up that helps; one alone cannot be larger than any amount may be."""
    if amount <= AMOUNT_MAX:
        return f"manager.top_up({agent!r}, {as_code(amount, unit)})"
    one = as_code(AMOUNT_MAX, unit)
    return f"manager.top_up({agent!r}, {one}) repeatedly, {figure(amount, unit)} in all"


def undecidable(
    denied: Denied, size: Unbounded, scope: str, unit: str = "tokens"
) -> BudgetExceededError:
    """Return the error for a call that was refused before the books were asked."""
    return BudgetExceededError(
        denied.agent,
        denied.requested,
        denied.available,
        code=denied.code,
        reason=f"A call of agent {denied.agent!r} is not sent. {size.reason}",
        scope=scope,
        remedy=size.remedy,
        unit=unit,
    )


def overdrawn(posted: Posted, scope: str, unit: str = "tokens") -> BudgetExceededError:
    """Return the error for usage that was posted, and is not covered."""
    agent, lacks = posted.agent, figure(posted.overdraft, unit)
    are = "is" if unit == "usd" else "are"
    them = "it is" if unit == "usd" else "they are"
    block = "blocks" if unit == "usd" else "block"
    return BudgetExceededError(
        agent,
        posted.amount,
        max(0, posted.amount - posted.overdraft),
        code="overdraft",
        scope=scope,
        lacking=posted.overdraft,
        reason=(
            f"Agent {agent!r} used {said(posted.amount, unit)}; {them} on the books of scope "
            f"{scope!r}, but {lacks} {are} not covered, and {block} its next call."
        ),
        remedy=f"What helps: {_top_up(agent, posted.overdraft, unit)}.",
        unit=unit,
    )


def no_price(what: str, usage: Usage) -> str:
    """Say that a usage cannot be charged in dollars, and what can."""
    whose = "it names no model" if usage.model is None else f"nobody knows that of {usage.model!r}"
    entry = f'prices={{"{usage.model or "my-model"}": {{"input": "0.15", "output": "0.60"}}}}'
    return (
        f"{what} has no known price: {whose}, and these budgets are in dollars. Nothing was "
        f'posted. What helps: dollars (Decimal("0.02")), Usage(..., cost_micro_usd=20_000), '
        f'Usage(..., model="...") of a model with a price, or {entry} on the manager.'
    )


def no_contract(name: str, contracts: Mapping[str, BudgetContract]) -> str:
    """Say that a call is tracked without a limit."""
    near = nearest(name, contracts)
    hint = f" The nearest contract is {near!r}." if near else ""
    whose = "A call that names no agent" if name == UNATTRIBUTED else f"Agent {name!r}"
    return (
        f"{whose} has no contract: it is tracked on a line of its own, without a limit.{hint} "
        'Register it, or refuse such calls with unattributed="deny".'
    )


def unattributed(name: str, contracts: Mapping[str, BudgetContract]) -> Unbounded:
    """Say why a call that no contract answers for is refused."""
    near = nearest(name, contracts)
    hint = f" The nearest contract is {near!r}." if near else ""
    return Unbounded(
        f"No contract answers for it, and such calls are refused.{hint}",
        f'What helps: manager.register_agent({name!r}, ...), or unattributed="track".',
        code="unattributed",
    )
