"""Checks at the door: what is not a whole number of tokens, or not a name, gets no further."""

from __future__ import annotations

import math
import operator
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Exact as a double with room for sums, and so in every store (Lua numbers are doubles).
AMOUNT_MAX = 2**40
TOTAL_MAX = 2**53 - 1  # what a double still keeps to the last digit; no sum of budget goes beyond
NAME_BYTES_MAX = 200
NOTE_CHARACTERS_MAX = 200
_SHOWN_MAX = 60
_SHOWN_BITS_MAX = 128
_DIGITS_PER_BIT = math.log10(2)
# They make a report's line read otherwise than it is written; joiners within emoji do not.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")


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
        msg = f"{what} must be a whole number, not {type(value).__name__} ({shown(value)})."
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
        msg = f"{what} must be a number between 0 and 1, not {kind} ({shown(value)})."
        raise TypeError(msg)
    if not 0 <= value <= 1:  # NaN fails this too
        msg = f"{what} must be between 0 and 1, not {shown(value)}."
        raise ValueError(msg)
    return float(value)


def check_shares(value: Any, what: str) -> tuple[float, ...]:
    """Return shares of a whole, lowest first, each once.

    Raises:
        TypeError: They are no list.
        ValueError: One is no number above 0 and up to 1.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        msg = f"{what} must be a list of shares, not {shown(value)}."
        raise TypeError(msg)
    for share in value:
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not 0 < share <= 1:
            msg = f"{what} must hold shares above 0 and up to 1, not {shown(share)}."
            raise ValueError(msg)
    return tuple(sorted({float(share) for share in value}))


def check_seconds(value: Any, what: str) -> float:
    """Return `value` if it is a positive, finite number of seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite, zero or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{what} must be a number of seconds, not {type(value).__name__} ({shown(value)})."
        raise TypeError(msg)
    try:
        seconds = float(value)
    except OverflowError:  # an int that no float is large enough for
        seconds = math.inf
    if not math.isfinite(seconds) or seconds <= 0:
        msg = f"{what} must be a positive number of seconds, not {shown(value)}."
        raise ValueError(msg)
    return seconds


def check_wait(value: Any) -> float:
    """Return `value` if it is a finite number of seconds from 0 up.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite or negative.
    """
    if type(value) is int and value == 0:
        return 0.0
    return check_seconds(value, "wait_s of a hold (0 for not at all)")


def check_timeout(value: Any) -> float | None:
    """Return `value` if it is a finite number of seconds from 0 up; None is no limit.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite or negative.
    """
    if value is None or (type(value) is int and value == 0):
        return value
    return check_seconds(value, "timeout_s (None for no limit)")


def check_name(value: Any, what: str = "agent name") -> str:
    """Return a name in its one spelling: NFC, without blanks around it.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, longer than 200 UTF-8 bytes, or has control characters, those that
            end lines or turn text around among them.
    """
    if not isinstance(value, str):
        msg = f"The {what} must be text, not {type(value).__name__} ({shown(value)})."
        raise TypeError(msg)
    if value.isascii() and value.isprintable():
        name = value.strip()  # the common case: NFC changes nothing, nothing is a control character
    else:
        name = unicodedata.normalize("NFC", value).strip()
        if any(unicodedata.category(character) == "Cs" for character in name):
            msg = f"The {what} holds bytes that were not read as text: {shown(value)}."
            raise ValueError(msg)
        if any(_is_control(character) for character in name):
            msg = f"The {what} must not hold control characters: {shown(value)}."
            raise ValueError(msg)
    if not name:
        msg = f"The {what} must not be empty."
        raise ValueError(msg)
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode()) > NAME_BYTES_MAX:
        msg = f"The {what} must have at most {NAME_BYTES_MAX} UTF-8 bytes: {shown(value)}."
        raise ValueError(msg)
    return name


def check_key(value: Any) -> str | None:
    """Return an idempotency key in its one spelling, which is that of a name; None is none.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, longer than 200 UTF-8 bytes, or has control characters.
    """
    return None if value is None else check_name(value, "key")


def without_folder(path: Path) -> str | None:
    """Say that a file cannot be made for want of a folder; None where the folder is there."""
    folder = path.absolute().parent
    return None if folder.is_dir() else f"There is no folder {str(folder)!r} for {path.name!r}."


def as_sentence(text: str) -> str:
    """Return what somebody else said with a mark at its end, and not with two."""
    said = " ".join(text.split()).rstrip(".")
    return said if said.endswith(("?", "!")) else f"{said}."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like this one, if any does."""
    from difflib import (
        get_close_matches,  # slow to import, and only needed where something is wrong
    )

    by_fold = {other.casefold(): other for other in known}
    found = get_close_matches(name.casefold(), list(by_fold), n=1)
    return by_fold[found[0]] if found else None


def printable(text: str) -> str:
    """Return a name as it can be printed: what other programs wrote has not passed `check_name`."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in text
    )


def _is_control(character: str) -> bool:
    """Return whether a character ends lines, turns text around, or is none."""
    return character in _REORDERING or unicodedata.category(character) in _CONTROLS


def cut_note(note: object) -> str:
    """Return a note of at most 200 characters: it is the user's words, and no place for prompts."""
    return str(note)[:NOTE_CHARACTERS_MAX]


def shown(value: object) -> str:
    """Show a bad value in an error, short enough not to carry a prompt along."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS_MAX:
        return f"a number of some {int(value.bit_length() * _DIGITS_PER_BIT) + 1:,} digits"
    try:
        text = repr(value)
    except Exception:  # it is the user's, or holds a number that Python does not write out
        return f"{type(value).__name__} that cannot be shown"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
