"""Checks at the door: what is not a whole number of tokens, or not a name, gets no further."""

from __future__ import annotations

import math
import operator
import unicodedata
from typing import Any

# Exact as a double with room for sums, and so in every store (Lua numbers are doubles).
AMOUNT_MAX = 2**40
TOTAL_MAX = 2**53 - 1  # what a double still keeps to the last digit; no sum of budget goes beyond
NAME_BYTES_MAX = 200
NOTE_CHARACTERS_MAX = 200
_SHOWN_MAX = 60
_SHOWN_BITS_MAX = 128


def check_amount(value: Any, what: str, *, minimum: int = 0, maximum: int = AMOUNT_MAX) -> int:
    """Return `value` if it is a whole number in range.

    Args:
        value: What the caller gave.
        what: How the error calls it, such as "max_tokens of agent 'writer'".
        minimum: The smallest value allowed.
        maximum: The largest value allowed.

    Raises:
        TypeError: It is a bool, text or anything else that is no number.
        ValueError: It is NaN, infinite, fractional or out of range.
    """
    number: int = value if type(value) is int else _whole(value, what)
    if not minimum <= number <= maximum:
        shown = f"{number:,}" if number.bit_length() <= _SHOWN_BITS_MAX else "a larger number"
        msg = f"{what} must be between {minimum:,} and {maximum:,}, not {shown}."
        raise ValueError(msg)
    return number


def _whole(value: Any, what: str) -> int:
    """Return an int for what is a whole number of another type, as NumPy's integers are."""
    if isinstance(value, float):
        if not math.isfinite(value) or not value.is_integer():
            msg = f"{what} must be a whole number, not {value!r}."
            raise ValueError(msg)
        return int(value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        msg = f"{what} must be a whole number, not {type(value).__name__} ({_shown(value)})."
        raise TypeError(msg)
    return operator.index(value)


def check_score(value: Any, what: str) -> float:
    """Return `value` if it is a confidence between 0 and 1.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN or outside 0..1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = type(value).__name__
        msg = f"{what} must be a number between 0 and 1, not {kind} ({_shown(value)})."
        raise TypeError(msg)
    if not 0 <= value <= 1:  # NaN fails this too
        msg = f"{what} must be between 0 and 1, not {value!r}."
        raise ValueError(msg)
    return float(value)


def check_seconds(value: Any, what: str) -> float:
    """Return `value` if it is a positive, finite number of seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite, zero or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} must be a number of seconds, not {type(value).__name__} ({_shown(value)})."
        raise TypeError(msg)
    if not math.isfinite(value) or value <= 0:
        msg = f"{what} must be a positive number of seconds, not {value!r}."
        raise ValueError(msg)
    return float(value)


def check_wait(value: Any) -> float:
    """Return `value` if it is a finite number of seconds from 0 up.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite or negative.
    """
    if type(value) is int and value == 0:
        return 0.0
    return check_seconds(value, "wait_s of a hold (0 for not at all)")


def check_name(value: Any, what: str = "agent name") -> str:
    """Return a name in its one spelling: NFC, without blanks around it.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, longer than 200 UTF-8 bytes, or has control characters.
    """
    if not isinstance(value, str):
        msg = f"The {what} must be text, not {type(value).__name__} ({_shown(value)})."
        raise TypeError(msg)
    if value.isascii() and value.isprintable():
        name = value.strip()  # the common case: NFC changes nothing, nothing is a control character
    else:
        name = unicodedata.normalize("NFC", value).strip()
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            msg = f"The {what} must not hold control characters: {_shown(value)}."
            raise ValueError(msg)
    if not name:
        msg = f"The {what} must not be empty."
        raise ValueError(msg)
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode()) > NAME_BYTES_MAX:
        msg = f"The {what} must have at most {NAME_BYTES_MAX} UTF-8 bytes: {_shown(value)}."
        raise ValueError(msg)
    return name


def check_key(value: Any) -> str | None:
    """Return an idempotency key in its one spelling, which is that of a name; None is none.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, longer than 200 UTF-8 bytes, or has control characters.
    """
    return None if value is None else check_name(value, "key")


def cut_note(note: object) -> str:
    """Return a note of at most 200 characters: it is the user's words, and no place for prompts."""
    return str(note)[:NOTE_CHARACTERS_MAX]


def _shown(value: object) -> str:
    """Show a bad value in an error, short enough not to carry a prompt along."""
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
