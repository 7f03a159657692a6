"""How long an answer may be: at most what is left can pay for, where a call can still be changed.

The cap is lowered, never raised. What is left is read before the hold is placed, and the hold
decides: it covers the cap that is sent, so that a call that loses a race for the last tokens is
refused, and can be clamped again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.checks import AMOUNT_MAX, check_amount
from tbcontracts.commands import Denied, Granted, Reply, Reserve, Void
from tbcontracts.errors import StoreError
from tbcontracts.ids import new_id
from tbcontracts.sizing import CallShape, expected_size

if TYPE_CHECKING:
    from tbcontracts.contract import BudgetContract
    from tbcontracts.errors import BudgetExceededError
    from tbcontracts.manager import BudgetManager

MIN_OUTPUT_TOKENS = 64
"""An answer shorter than this is rarely worth its input: such a call is refused instead."""
LONGEST_ANSWER = 4_096
"""How long an answer of a model may be of which nothing else is known. Providers refuse a cap
above what a model can, so that no longer one is sent where none was asked for."""
ATTEMPTS = 16
"""How often a call is clamped anew that was refused because others took what it had counted on."""

_BUDGET_CODES = frozenset(("budget_exceeded", "fragmented", "reserve_kept"))


class Left(NamedTuple):
    """What an agent has left for its next call, in the unit of the books."""

    own: int
    """Its own, without the reserve where that is kept; negative in overdraft."""
    reachable: int
    """That and what the pool and the donors would give; never less than 0."""


class Need(NamedTuple):
    """What is known of a call that is to be clamped. All numbers are tokens."""

    input_tokens: int
    cap: int | None
    """The cap that it has, or that the contract gives it; None for none."""
    usual: int
    """The output to expect of a call without a cap, for each choice."""
    choices: int = 1
    must_have: bool = False
    """Whether the call is not sent without a cap (strict mode)."""


def clamp(
    need: Need, left: Left, *, floor: int = MIN_OUTPUT_TOKENS, longest: int | None = None
) -> int | None:
    """Return the output cap to send, or None to send none.

    A cap that does not fit is lowered to what can be reached. A call without one gets one where
    what the agent has of its own may be passed by the answer; donors are only counted on as far as
    such a call usually goes, so that one call does not gather all that others could lend. Below
    `floor` (or the call's own cap, if that is lower) nothing is lowered: the hold for that much
    does not fit, and the books refuse it.

    Args:
        need: What is known of the call.
        left: What its agent has left.
        floor: The shortest answer worth sending for.
        longest: The longest answer that the model can give, if that is known.
    """
    room = (left.reachable - need.input_tokens) // need.choices
    if need.cap is not None:
        return need.cap if need.cap <= room else max(room, min(floor, need.cap))
    own = (left.own - need.input_tokens) // need.choices
    most = max(own, min(need.usual, room))
    longest = longest or LONGEST_ANSWER
    if most >= longest:
        return longest if need.must_have else None
    return max(most, floor)


def output_cap(
    manager: BudgetManager,
    agent: str | None,
    shape: CallShape,
    *,
    floor: int = MIN_OUTPUT_TOKENS,
    longest: int | None = None,
) -> int | None:
    """Return the output cap that a call should be sent with; None leaves it as it is.

    Args:
        manager: Whose contracts and books.
        agent: Who calls, as `BudgetManager.begin_call` takes it.
        shape: What is known of the call.
        floor: The shortest answer worth sending for, 1 or more.
        longest: The longest answer that the model can give, if that is known.
    """
    asked = _question(manager, agent, shape)
    if asked is None:
        return None
    name, need = asked
    left = _for_tokens(manager, what_is_left(manager, name, own=need.cap is None), need, shape)
    return None if left is None else clamp(need, left, floor=floor, longest=longest)


async def aoutput_cap(
    manager: BudgetManager,
    agent: str | None,
    shape: CallShape,
    *,
    floor: int = MIN_OUTPUT_TOKENS,
    longest: int | None = None,
) -> int | None:
    """Do the same without blocking the event loop."""
    asked = _question(manager, agent, shape)
    if asked is None:
        return None
    name, need = asked
    found = await awhat_is_left(manager, name, own=need.cap is None)
    left = _for_tokens(manager, found, need, shape)
    return None if left is None else clamp(need, left, floor=floor, longest=longest)


def _for_tokens(
    manager: BudgetManager, left: Left | None, need: Need, shape: CallShape
) -> Left | None:
    """Return what is left as the tokens that it pays for, of this call's input and its answer."""
    if left is None or manager.settings.unit == "tokens":
        return left
    price = manager.price_of(shape.model, shape.provider)
    if price is None:
        return None  # the gate says so
    strict = manager.settings.enforcement == "strict"
    paid = [price.output_for(amount, need.input_tokens, at_most=strict) for amount in left]
    tokens = [need.input_tokens + answer for answer in paid if answer is not None]
    return Left._make(tokens) if len(tokens) == len(left) else None


def learned_input(
    manager: BudgetManager, shape: CallShape, cap: int, refusal: BudgetExceededError
) -> int | None:
    """Return how large the input of a refused call was, told by the size of the hold; or None.

    Args:
        manager: Whose books refused it.
        shape: What was known of the call.
        cap: The output cap that it had.
        refusal: What they said.
    """
    output = cap * shape.choices
    if refusal.unit == "tokens":
        return max(0, refusal.requested - output)
    price = manager.price_of(shape.model, shape.provider)
    if price is None:
        return None
    strict = manager.settings.enforcement == "strict"
    return price.input_for(refusal.requested, output, shape.size.input_tokens, at_most=strict)


def what_is_left(manager: BudgetManager, name: str, *, own: bool = True) -> Left | None:
    """Return what an agent has left; None where budget is not what decides about its next hold.

    Args:
        manager: Whose books.
        name: An agent with a contract.
        own: Whether to look up what it has of its own; else that is what it can reach.

    Raises:
        StoreError: The store does not answer, and no call goes without it.
    """
    try:
        return _what_is_left(manager, name, own=own)
    except StoreError:
        if manager.settings.goes_without_store:
            return None
        raise


async def awhat_is_left(manager: BudgetManager, name: str, *, own: bool = True) -> Left | None:
    """Do the same without blocking the event loop."""
    try:
        return await _awhat_is_left(manager, name, own=own)
    except StoreError:
        if manager.settings.goes_without_store:
            return None
        raise


def _what_is_left(manager: BudgetManager, name: str, *, own: bool) -> Left | None:
    scope = manager.scope_name
    trial = _trial(manager, name)
    reply = manager.apply_to(scope, trial)
    if isinstance(reply, Granted):
        manager.apply_to(scope, Void(trial.hold_id))
    reachable = _reachable(reply)
    if reachable is None:
        return None
    if manager._outer is not None:
        above = _what_is_left(*manager._outer, own=False)
        if above is None:
            return None
        reachable = min(reachable, above.reachable)
    mine = manager.remaining(name) - trial.leave if own else reachable
    return Left(min(mine, reachable), reachable)


async def _awhat_is_left(manager: BudgetManager, name: str, *, own: bool) -> Left | None:
    scope = manager.scope_name
    trial = _trial(manager, name)
    reply = await manager.aapply_to(scope, trial)
    if isinstance(reply, Granted):
        await manager.aapply_to(scope, Void(trial.hold_id))
    reachable = _reachable(reply)
    if reachable is None:
        return None
    if manager._outer is not None:
        above = await _awhat_is_left(*manager._outer, own=False)
        if above is None:
            return None
        reachable = min(reachable, above.reachable)
    mine = await manager.aremaining(name) - trial.leave if own else reachable
    return Left(min(mine, reachable), reachable)


def check_floor(value: object) -> int:
    """Return `min_output_tokens` if it is one.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is less than 1.
    """
    return check_amount(value, "min_output_tokens", minimum=1)


def _question(
    manager: BudgetManager, agent: str | None, shape: CallShape
) -> tuple[str, Need] | None:
    """Return whose budget a call needs and how much; None where nothing limits it.

    In observe mode nothing is changed, and an account without a contract has no limit.
    """
    name, tracked = manager._account_for(agent)
    enforcement = manager.settings.enforcement
    if tracked or enforcement == "observe":
        return None
    strict = enforcement == "strict"
    input_tokens = shape.size.input_bound if strict else shape.size.input_tokens
    if input_tokens is None:
        return None  # nothing bounds its input: the gate says so
    contract = manager.contract_of(name)
    assert contract is not None, name
    choices = max(1, shape.choices)
    price = None
    if manager.settings.unit == "usd":
        price = manager.price_of(shape.model, shape.provider)
    expected = expected_size(shape, contract, manager._engine.forecast(name), price).tokens
    usual = max(0, expected - shape.size.input_tokens) // choices
    return name, Need(input_tokens, _cap(shape, contract), usual, choices, strict)


def _cap(shape: CallShape, contract: BudgetContract) -> int | None:
    """Return the lower one of the call's own cap and its contract's."""
    caps = [cap for cap in (shape.output_cap, contract.max_output_tokens) if cap is not None]
    return min(caps, default=None)


def _trial(manager: BudgetManager, name: str) -> Reserve:
    """Return a hold for more than there can be: its refusal says how much can be reached."""
    leave = manager._kept_back(name)
    return Reserve(name, AMOUNT_MAX, new_id(), leave=leave, enforcement="expected", trial=True)


def _reachable(reply: Reply) -> int | None:
    """Return what the books would give; None where they refuse for another reason."""
    if not isinstance(reply, Denied):
        return AMOUNT_MAX
    return reply.available if reply.code in _BUDGET_CODES else None
