"""What a model costs, exactly: whole numbers over one denominator, never a float.

A cost is rounded up once, to the next millionth of a dollar.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tbcontracts.checks import AMOUNT_MAX, nearest, shown
from tbcontracts.money import MICRO_USD, plain_dollars

if TYPE_CHECKING:
    from fractions import Fraction

    from tbcontracts.usage import Usage

RATES = ("input", "output", "cached_input", "cache_write", "reasoning", "request")
"""What a price can be given for: a million tokens of each kind, and one request."""
_RATE_MAX = 1_000_000


class Rates(NamedTuple):
    """What one token of each kind costs, in micro-dollars times the scale of its price."""

    above: int
    """They hold for requests with more input tokens than this."""
    input: int | None
    output: int | None
    cached_input: int
    cache_write: int
    reasoning: int

    @property
    def dearest_input(self) -> int:
        """What a token of input costs at most."""
        return max(self.input or 0, self.cached_input, self.cache_write)

    @property
    def dearest_output(self) -> int:
        """What a token of output costs at most."""
        return max(self.output or 0, self.reasoning)


class ModelPrice(NamedTuple):
    """The price of a model: exact, and with its tiers, if large requests cost more.

    Example:
        `ModelPrice.per_million(input="0.15", output="0.60", cached_input="0.075")`
    """

    scale: int
    tiers: tuple[Rates, ...]
    """By the input that they begin above; the first one at -1. All tokens have the rates of the
    highest tier that the input is above."""
    request: int = 0
    """What each request costs beside its tokens, in the same scale."""
    soon: ModelPrice | None = None
    """The price that holds half an hour later, where that is another one."""

    @classmethod
    def per_million(cls, *, as_written: bool = False, **dollars: object) -> ModelPrice:
        """Return a price from dollars for a million tokens.

        Args:
            as_written: Floats will do, for what was read from a file; see `money.micro_usd`.
            dollars: input, output; cached_input, cache_write (else as input), reasoning (else as
                output); request: dollars for each request. Each a `Decimal`, text, or a whole
                number; 0 is free.

        Raises:
            TypeError: One is no number, or a float.
            ValueError: One is negative, too large, unknown; or neither input nor output is given.
        """
        unknown = sorted(set(dollars) - set(RATES))
        if unknown:
            near = nearest(unknown[0], RATES)
            hint = f" Did you mean {near!r}?" if near else ""
            msg = f"A price has no {unknown[0]!r}; it has {', '.join(RATES)}.{hint}"
            raise ValueError(msg)
        given = {
            name: _rate(value, name, as_written=as_written)
            for name, value in dollars.items()
            if value is not None
        }
        request = given.pop("request", None)
        if not {"input", "output"} & set(given):
            msg = "A price needs dollars for a million tokens of input, of output, or of both."
            raise ValueError(msg)
        # A dollar for a million tokens is a micro-dollar for one.
        return exact_price({name: ((-1, rate),) for name, rate in given.items()}, request)

    def cost(self, usage: Usage) -> int | None:
        """Return what a usage costs, in micro-dollars, rounded up; None where no price covers it.

        Each token is counted once: parts at their own rate, and the rest at that of their whole.
        """
        rates = self._rates(usage.input_tokens)
        cached, written = usage.cached_input_tokens, usage.cache_write_tokens
        plain = max(0, usage.input_tokens - cached - written)
        answer = max(0, usage.output_tokens - usage.reasoning_tokens)
        if (rates.input is None and usage.input_tokens) or (
            rates.output is None and usage.output_tokens
        ):
            return None
        sum_ = (
            self.request
            + plain * (rates.input or 0)
            + cached * rates.cached_input
            + written * rates.cache_write
            + answer * (rates.output or 0)
            + usage.reasoning_tokens * rates.reasoning
        )
        return min(AMOUNT_MAX, -(-sum_ // self.scale))

    def expected(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return what a call of this size costs, if nothing of it is cached; None if unknown."""
        rates = self._rates(input_tokens)
        if rates.input is None or rates.output is None:
            return None
        sum_ = self.request + input_tokens * rates.input + output_tokens * rates.output
        return min(AMOUNT_MAX, -(-sum_ // self.scale))

    def most(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return what a call costs at most that has at most so many tokens; None if unknown.

        Whatever part of it is cached or reasoning, whichever tier it reaches, and if it ends after
        the price has changed.
        """
        reached = [rates for rates in self.tiers if rates.above < max(0, input_tokens)]
        if any(rates.input is None or rates.output is None for rates in reached or self.tiers):
            return None
        dearest_in = max(rates.dearest_input for rates in reached)
        dearest_out = max(rates.dearest_output for rates in reached)
        sum_ = self.request + input_tokens * dearest_in + output_tokens * dearest_out
        most = min(AMOUNT_MAX, -(-sum_ // self.scale))
        if self.soon is None:
            return most
        later = self.soon.most(input_tokens, output_tokens)
        return None if later is None else max(most, later)

    def output_for(self, amount: int, input_tokens: int, *, at_most: bool = False) -> int | None:
        """Return how many tokens of output an amount pays for beside an input; None if unknown.

        Args:
            amount: Micro-dollars.
            input_tokens: The input that it pays for as well.
            at_most: By the dearest rates that may hold, as `most` counts.

        Returns:
            At most 2**40; a negative number where it does not even pay for the input.
        """
        if at_most and self.soon is not None:
            later = self.soon.output_for(amount, input_tokens, at_most=True)
            now = self._replace(soon=None).output_for(amount, input_tokens, at_most=True)
            return None if later is None or now is None else min(later, now)
        rates = self._rates(input_tokens)
        if rates.input is None or rates.output is None:
            return None
        rate_in, rate_out = rates.input, rates.output
        if at_most:
            reached = [tier for tier in self.tiers if tier.above < max(0, input_tokens)]
            rate_in = max(tier.dearest_input for tier in reached)
            rate_out = max(tier.dearest_output for tier in reached)
        room = amount * self.scale - self.request - input_tokens * rate_in
        if not rate_out:
            return AMOUNT_MAX if room >= 0 else -1
        return max(-AMOUNT_MAX, min(AMOUNT_MAX, room // rate_out))

    def input_for(
        self, amount: int, output_tokens: int, about: int, *, at_most: bool = False
    ) -> int | None:
        """Return how many tokens of input an amount pays for beside an answer; None if unknown.

        Args:
            amount: Micro-dollars.
            output_tokens: The answer that it pays for as well.
            about: About how large the input is; it decides on the tier.
            at_most: By the dearest rates that may hold, as `most` counts.
        """
        rates = self._rates(about)
        rate_in, rate_out = rates.input, rates.output
        if at_most:
            reached = [tier for tier in self.tiers if tier.above < max(0, about)]
            rate_in = max(tier.dearest_input for tier in reached)
            rate_out = max(tier.dearest_output for tier in reached)
        if not rate_in or rate_out is None:
            return None
        room = amount * self.scale - self.request - output_tokens * rate_out
        return min(AMOUNT_MAX, max(0, room // rate_in))

    def _rates(self, input_tokens: int) -> Rates:
        """Return the rates of a request with so much input."""
        tiers = self.tiers
        if len(tiers) == 1:
            return tiers[0]
        return next(rates for rates in reversed(tiers) if rates.above < max(0, input_tokens))


Steps = tuple[tuple[int, "Fraction"], ...]
"""Prices of one kind of token, each with the input that it begins above."""


def exact_price(kinds: Mapping[str, Steps], request: Fraction | None = None) -> ModelPrice:
    """Return a price of fractions as whole numbers over one denominator.

    Args:
        kinds: Micro-dollars for a token of each kind.
        request: Dollars for a request.
    """
    per_request = 0 if request is None else request * MICRO_USD
    rates = [per_request, *(rate for steps in kinds.values() for _, rate in steps)]
    scale = math.lcm(*(rate.denominator for rate in rates))

    def at(kind: str, above: int) -> int | None:
        found = [rate for start, rate in kinds.get(kind, ()) if start <= above]
        return None if not found else int(found[-1] * scale)

    def part(kind: str, above: int, whole: int | None) -> int:
        found = at(kind, above)
        return (whole or 0) if found is None else found

    tiers = []
    for above in sorted({start for steps in kinds.values() for start, _ in steps}):
        whole_in, whole_out = at("input", above), at("output", above)
        tiers.append(
            Rates(
                above,
                whole_in,
                whole_out,
                part("cached_input", above, whole_in),
                part("cache_write", above, whole_in),
                part("reasoning", above, whole_out),
            )
        )
    return ModelPrice(scale, tuple(tiers), int(per_request * scale))


def _rate(value: object, name: str, *, as_written: bool) -> Fraction:
    """Return a price that somebody wrote, exactly."""
    from decimal import Decimal, InvalidOperation
    from fractions import Fraction

    what = f"The price of {name}"
    if isinstance(value, float) and as_written:
        value = repr(value)
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        msg = f'{what} must be dollars for a million tokens, as Decimal("0.15") or "0.15", not '
        msg += f"{type(value).__name__} ({shown(value)})."
        raise TypeError(msg)
    try:
        number = Decimal(plain_dollars(value) if isinstance(value, str) else value)
    except InvalidOperation:
        msg = f'{what} must be dollars for a million tokens, such as "0.15", not {shown(value)}.'
        raise ValueError(msg) from None
    if not number.is_finite() or not 0 <= number <= _RATE_MAX:
        msg = f"{what} must be between 0 and {_RATE_MAX:,} dollars, not {shown(value)}."
        raise ValueError(msg)
    return Fraction(number)
