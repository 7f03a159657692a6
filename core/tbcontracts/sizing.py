"""How large a hold must be: what a call may use, found before it is sent.

In "expected" mode a hold is what the call probably takes, in "strict" mode what it cannot pass.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections import deque
from typing import NamedTuple

from tbcontracts.contract import BudgetContract
from tbcontracts.model_price import ModelPrice
from tbcontracts.pricing import INSTALL
from tbcontracts.tokens import RequestSize
from tbcontracts.usage import model_name

RECENT_CALLS = 256
CALLS_TO_TRUST = 5
QUANTILE = 0.95
COLD_START_MIN = 16
COLD_START_MAX = 1_024
UNKNOWN_PRICE = "unknown_price"
"""The code of a call that is refused because nobody knows what it costs."""
NO_PRICE = "no known price"
"""How the size of a hold was found that only observe mode lets through, for nothing."""
OUTGROWN = "an answer that outgrows its hold"
"""How the size of what a hold grows by was found."""
BEYOND = "what a call needs beyond the hold around it"
"""The same, where the call inside is larger than its outer layer thought."""


class CallShape(NamedTuple):
    """What an integration knows of a call before it is sent."""

    size: RequestSize
    output_cap: int | None = None
    """The longest answer that the request allows, as sent to the provider."""
    choices: int = 1
    """How many answers it asks for."""
    model: str | None = None
    """What the request calls its model; by that its price is found."""
    provider: str | None = None
    """Who serves it, as far as that is known."""


class HoldSize(NamedTuple):
    """The size of a hold, and how it was found."""

    tokens: int
    """How many tokens it is for: of the input, and of all answers."""
    sizing: str
    input_tokens: int
    amount: int
    """What is held: the same number, or what so many tokens cost."""


class Unbounded(NamedTuple):
    """Why a hold cannot be sized, and what would help."""

    reason: str
    remedy: str
    code: str = "unbounded"


class Forecast:
    """The output sizes of an agent's last measured calls.

    The quantile is read from a sorted copy that is kept beside the order of arrival.
    """

    __slots__ = ("_arrived", "_lock", "_ordered")

    def __init__(self) -> None:
        self._arrived: deque[int] = deque()
        self._ordered: list[int] = []
        self._lock = threading.RLock()  # a finalizer may come back here on the same thread

    def add(self, output_tokens: int) -> None:
        """Note a measured call."""
        with self._lock:
            self._arrived.append(output_tokens)
            insort(self._ordered, output_tokens)
            if len(self._arrived) > RECENT_CALLS:
                self._ordered.remove(self._arrived.popleft())

    def quantile(self) -> int | None:
        """Return the output that 95 % of recent calls stayed within, or None before 5 calls."""
        with self._lock:
            known = len(self._ordered)
            if known < CALLS_TO_TRUST:
                return None
            return self._ordered[min(known - 1, int(QUANTILE * known))]


def cold_start(contract: BudgetContract, price: ModelPrice | None = None) -> int:
    """Return the output to expect of an agent that was never seen.

    It is what an eighth of its budget pays for, within bounds.
    """
    eighth = contract.max_tokens // 8
    if contract.unit == "usd":
        eighth = (price.output_for(eighth, 0) if price is not None else None) or 0
    return min(COLD_START_MAX, max(COLD_START_MIN, eighth))


def expected_size(
    shape: CallShape,
    contract: BudgetContract | None,
    forecast: Forecast | None,
    price: ModelPrice | None = None,
) -> HoldSize:
    """Size a hold by what the call will probably use.

    The output is the call's own cap, else the contract's, else what this agent's recent calls
    needed, else a cold start.
    """
    input_tokens = shape.size.input_tokens
    if shape.output_cap is not None:
        output, sizing = shape.output_cap, "output cap of the call"
    elif contract is not None and contract.max_output_tokens is not None:
        output, sizing = contract.max_output_tokens, "max_output_tokens of the contract"
    else:
        usual = forecast.quantile() if forecast is not None else None
        if usual is not None:
            tokens = input_tokens + usual
            return HoldSize(tokens, "95 % of recent calls", input_tokens, tokens)
        output = COLD_START_MAX if contract is None else cold_start(contract, price)
        sizing = "cold start"
    tokens = input_tokens + output * shape.choices
    return HoldSize(tokens, sizing, input_tokens, tokens)


def strict_size(shape: CallShape, contract: BudgetContract | None) -> HoldSize | Unbounded:
    """Size a hold by what the call cannot pass, or say why nothing bounds it."""
    if shape.size.input_bound is None:
        return Unbounded(
            "Its input holds images, audio or files, whose tokens nothing bounds beforehand.",
            'What helps: enforcement="expected" for this manager.',
        )
    if shape.output_cap is not None:
        output, sizing = shape.output_cap, "bound: output cap of the call"
    elif contract is not None and contract.max_output_tokens is not None:
        output, sizing = contract.max_output_tokens, "bound: max_output_tokens of the contract"
    else:
        return Unbounded(
            "Nothing bounds its answer: neither the request nor the contract has an output cap.",
            "What helps: max_tokens on the model, or max_output_tokens in the contract.",
        )
    tokens = shape.size.input_bound + output * shape.choices
    return HoldSize(tokens, sizing, shape.size.input_bound, tokens)


def in_dollars(
    size: HoldSize, shape: CallShape, price: ModelPrice | None, *, strict: bool
) -> HoldSize | Unbounded:
    """Return a hold for what its tokens cost, or say why that is not known.

    In strict mode it is what they cannot cost more than: the dearest rates that may hold.
    """
    amount = None
    if price is not None:
        count = price.most if strict else price.expected
        amount = count(size.input_tokens, size.tokens - size.input_tokens)
    if amount is not None:
        return size._replace(amount=amount)
    if shape.model is None:
        return Unbounded(
            "It names no model, so that nobody knows what it costs, and its budget is in dollars.",
            'What helps: the name of the model, as govern(..., model="...") gives it.',
            UNKNOWN_PRICE,
        )
    model = model_name(shape.model)
    entry = f'prices={{"{model}": {{"input": "0.15", "output": "0.60"}}}}'
    if price is not None:
        return Unbounded(
            f"The price of model {model!r} is not whole: it needs dollars for its input and for "
            "its output, and the budget is in dollars.",
            f"What helps: {entry}, in dollars for a million tokens; 0 is free.",
            UNKNOWN_PRICE,
        )
    return Unbounded(
        f"What model {model!r} costs is not known, and its budget is in dollars.",
        f"What helps: {entry}, in dollars for a million tokens, or [prices.{model!r}] in a "
        f"contract file; 0 is free. {INSTALL}.",
        UNKNOWN_PRICE,
    )
