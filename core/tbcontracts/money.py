"""Money as books keep it: whole micro-dollars. And amounts in words, in the unit they are in.

Books in dollars count millionths of a dollar, as whole numbers, so that no sum is ever rounded. At
a door a whole number is the books' own unit, and a `Decimal` is dollars; a float is neither,
because it rarely is the number that was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbcontracts.checks import AMOUNT_MAX, check_amount, shown

if TYPE_CHECKING:
    from decimal import Decimal

UNITS = ("tokens", "usd")
WORDS = {"tokens": "tokens", "usd": "US dollars"}
"""What the units are called in sentences."""
MICRO_USD = 1_000_000
"""How many micro-dollars a dollar has."""
_PLACES = 6
_DIGITS_MAX = 40


def amount_in(value: Any, unit: str, what: str, *, minimum: int = 0) -> int:
    """Return an amount in the unit of the books.

    Args:
        value: A whole number of that unit; for books in dollars also a `Decimal` of dollars.
        unit: "tokens" or "usd".
        what: How the error calls it.
        minimum: The smallest amount allowed, in the unit of the books.

    Raises:
        TypeError: It is a float where dollars are counted, a `Decimal` where tokens are, or no
            number at all.
        ValueError: It is out of range, or finer than a millionth of a dollar.
    """
    if type(value) is int:
        return check_amount(value, what, minimum=minimum)
    if unit == "usd":
        if isinstance(value, float):
            raise _no_float(value, what)
        if isinstance(value, str):
            msg = f"{what} is the text {shown(value)}; dollars are a Decimal here. "
            msg += 'What helps: Decimal("0.02").'
            raise TypeError(msg)
        if is_decimal(value):
            return check_amount(micro_usd(value, what), what, minimum=minimum)
    elif is_decimal(value):
        msg = f"{what} is {shown(value)}, which is dollars, and these budgets are in tokens. "
        msg += 'What helps: a whole number, or BudgetManager(unit="usd").'
        raise TypeError(msg)
    return check_amount(value, what, minimum=minimum)


def micro_usd(value: Any, what: str, *, as_written: bool = False) -> int:
    """Return dollars as micro-dollars, exactly.

    Args:
        value: A `Decimal`, text such as "2.50", or a whole number of dollars.
        what: How the error calls it.
        as_written: A float will do, for what was read from a file: the number is the shortest one
            that reads as this float, which is the one that was written.

    Raises:
        TypeError: It is a float, or no number at all.
        ValueError: It is no number, negative, finer than a millionth of a dollar, or too large.
    """
    from decimal import Decimal, InvalidOperation  # not needed by those who count tokens

    if isinstance(value, float):
        if not as_written:
            raise _no_float(value, what)
        value = repr(value)
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        msg = f'{what} must be dollars, as Decimal("2.50"), not {type(value).__name__} '
        msg += f"({shown(value)})."
        raise TypeError(msg)
    try:
        dollars = Decimal(plain_dollars(value) if isinstance(value, str) else value)
    except InvalidOperation:
        msg = f'{what} must be dollars, such as "2.50", not {shown(value)}.'
        raise ValueError(msg) from None
    _, digits, exponent = dollars.as_tuple()
    if isinstance(exponent, int) and abs(exponent) <= _DIGITS_MAX and len(digits) <= _DIGITS_MAX:
        numerator, denominator = dollars.as_integer_ratio()  # all digits, whatever the context
        micros, rest = divmod(numerator * MICRO_USD, denominator)
        if rest:
            msg = f"{what} must have at most six decimal places, not {shown(value)}."
            raise ValueError(msg)
        if 0 <= micros <= AMOUNT_MAX:
            return micros
    msg = f"{what} must be between $0 and {in_dollars(AMOUNT_MAX)}, not {shown(value)}."
    raise ValueError(msg)


def plain_dollars(text: str) -> str:
    """Return dollars that somebody wrote without the sign: "$2.50" is 2.50.

    What holds another sign than those of ASCII is no number here, though Python reads wide digits.
    """
    return text.strip().removeprefix("$") if text.isascii() else ""


def is_decimal(value: object) -> bool:
    """Return whether this is a `Decimal`, without importing what it comes from."""
    return any(kind.__name__ == "Decimal" for kind in type(value).__mro__)


def _no_float(value: float, what: str) -> TypeError:
    """Return the error for money that is a float."""
    return TypeError(
        f"{what} is the float {value!r}, and a float cannot hold most sums of money exactly. "
        f'What helps: Decimal("{value!r}").'
    )


def in_dollars(amount: int) -> str:
    """Return micro-dollars as dollars: "$2.50", "$0.000012", "-$0.01"."""
    whole, micros = divmod(abs(amount), MICRO_USD)
    cents = f"{micros:0{_PLACES}d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}${whole:,}.{cents}"


def figure(amount: int, unit: str) -> str:
    """Return an amount for a place that says its unit otherwise: "12,300", "$0.0123"."""
    return in_dollars(amount) if unit == "usd" else f"{amount:,}"


def said(amount: int, unit: str) -> str:
    """Return an amount with its unit: "12,300 tokens", "$0.0123"."""
    return in_dollars(amount) if unit == "usd" else plural(amount, "token")


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a number of things: "1 call", "2 calls"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def as_code(amount: int, unit: str) -> str:
    """Return an amount as a caller writes it: `12300`, `Decimal("0.0123")`."""
    if unit != "usd":
        return str(amount)
    return f'Decimal("{in_dollars(amount).replace("$", "").replace(",", "")}")'


def as_decimal(amount: int) -> Decimal:
    """Return micro-dollars as dollars that can be calculated with, exactly."""
    from decimal import Decimal

    return Decimal(amount).scaleb(-_PLACES)
