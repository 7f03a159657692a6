"""Tokens, contracts, scores and times that are none: refused at both doors, without a trace."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.core.bad_input.conftest import BAD_AMOUNTS, BAD_SECONDS, WRONG, Books, both_doors

from tbcontracts import BudgetManager, Usage
from tbcontracts.errors import ConfigurationError

BAD_SCORES: dict[Any, str] = {
    -0.1: "-0.1",
    1.01: "1.01",
    math.nan: "nan",
    math.inf: "inf",
    True: "bool",
    "0.5": "str",
}


@both_doors
@pytest.mark.parametrize("bad", BAD_AMOUNTS, ids=lambda bad: repr(bad)[:12])
def test_what_is_no_number_of_tokens(books: Books, door: str, bad: Any) -> None:
    """Negative, too large, NaN, infinite, fractional, bool, text, None: named, with the value."""
    for method, what in (
        ("reserve", "The hold for agent 'boss' must be"),
        ("record_usage", "The usage of agent 'boss' must be"),
        ("top_up", "The top-up of agent 'boss' must be"),
    ):
        books.refuses(WRONG, (what, BAD_AMOUNTS[bad]), books.call, door, method, "boss", bad)
    pool = ("The top-up of the pool must be",)
    books.refuses(WRONG, pool, books.call, door, "top_up", None, bad)
    books.refuses(
        WRONG,
        ("max_tokens of agent 'boss' must be", BAD_AMOUNTS[bad]),
        books.call,
        door,
        "change_contract",
        "boss",
        max_tokens=bad,
    )
    if bad is not None:
        books.refuses(WRONG, ("after_seq",), books.call, door, "journal", bad)


@pytest.mark.parametrize("bad", BAD_AMOUNTS, ids=lambda bad: repr(bad)[:12])
def test_contracts_with_bad_numbers(books: Books, bad: Any) -> None:
    """Each number of a contract is checked under its name; None is a default where there is one."""
    named = {"priority": bad, "max_tokens": bad, "min_reserve": bad, "max_output_tokens": bad}
    for name, value in named.items():
        if value is None and name in ("min_reserve", "max_output_tokens"):
            continue
        books.refuses(
            WRONG,
            (f"{name} of agent 'new'", BAD_AMOUNTS[bad]),
            books.manager.register_agent,
            "new",
            **{name: bad},
        )


def test_a_number_that_python_would_not_print(books: Books) -> None:
    """More than 4,300 digits are refused like any other number that is too large."""
    huge, words = 10**5_000, ("some 5,001 digits",)
    books.refuses(ValueError, ("agent 'boss'", "larger"), books.manager.reserve, "boss", huge)
    for number in (huge, -huge):
        books.refuses(TypeError, ("The agent name", *words), books.manager.remaining, number)
        score = ("confidence of agent 'boss' must be between 0 and 1", *words)
        books.refuses(ValueError, score, books.manager.report_confidence, "boss", number)
        ttl = ("ttl_s of a hold for agent 'boss'", *words)
        books.refuses(ValueError, ttl, books.manager.reserve, "boss", 1, ttl_s=number)
        books.refuses(ValueError, words, books.manager.reserve, "boss", 1, wait_s=number)
        books.refuses(ValueError, words, BudgetManager, enforcement=number)
        books.refuses(ValueError, ("input_tokens", *words), Usage, input_tokens=number)
    within = ("list that cannot be shown",)
    books.refuses(TypeError, within, books.manager.remaining, [huge])


@both_doors
def test_a_time_that_no_float_holds(books: Books, door: str) -> None:
    """A number that can be printed, and is too large to be a time."""
    for name in ("ttl_s", "wait_s"):
        words = (f"{name} of a hold", "positive number of seconds, not a number of some 401 digits")
        books.refuses(ValueError, words, books.call, door, "reserve", "boss", 1, **{name: 10**400})


@pytest.mark.parametrize(
    ("now", "word"),
    [("x", "str"), (None, "NoneType"), (True, "bool"), (math.nan, "no time"), (10**400, "no time")],
)
def test_a_clock_that_tells_no_time(now: Any, word: str) -> None:
    """It is told when the manager is made, not by the first hold."""
    with pytest.raises(ConfigurationError, match=f"clock must return seconds.*{word}"):
        BudgetManager(clock=lambda: now)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"priority": 0}, "priority of agent 'new' must be between 1 and 4,095, not 0"),
        ({"priority": 4_096}, "priority of agent 'new' must be between 1 and 4,095, not 4,096"),
        ({"max_tokens": 10, "min_reserve": 11}, "must be at most its max_tokens (10), not 11"),
        ({"max_output_tokens": 0}, "max_output_tokens of agent 'new' must be between 1"),
        ({"on_exceeded": "stop"}, '"raise", "end", "ask" or {"fallback": ...}, not \'stop\''),
        ({"on_exceeded": None}, "on_exceeded of agent 'new' must be"),
        ({"on_exceeded": {"else": 1}}, "on_exceeded of agent 'new' must be"),
    ],
)
def test_contracts_that_cannot_be(books: Books, fields: dict[str, Any], words: str) -> None:
    """What no contract can say is refused with what it can."""
    books.refuses(ValueError, (words,), books.manager.register_agent, "new", **fields)


@both_doors
@pytest.mark.parametrize("bad", BAD_SCORES)
def test_what_is_no_score(books: Books, door: str, bad: Any) -> None:
    """A score outside 0..1 is refused; the usage that came with it is not posted either."""
    words = ("confidence of agent 'boss' must be", "between 0 and 1", BAD_SCORES[bad])
    books.refuses(WRONG, words, books.call, door, "report_confidence", "boss", bad)
    books.refuses(WRONG, words, books.call, door, "record_usage", "boss", 10, "note", bad)
    threshold = ("confidence_threshold of agent 'new'", BAD_SCORES[bad])
    books.refuses(WRONG, threshold, books.manager.register_agent, "new", confidence_threshold=bad)


@both_doors
@pytest.mark.parametrize("bad", BAD_SECONDS)
def test_what_is_no_time(books: Books, door: str, bad: Any) -> None:
    """Limits of holds and waits are positive, finite numbers of seconds."""
    books.refuses(
        WRONG,
        ("ttl_s of a hold for agent 'boss' must be", repr(bad)),
        books.call,
        door,
        "reserve",
        "boss",
        10,
        ttl_s=bad,
    )
    if bad != 0 or isinstance(bad, bool):
        books.refuses(
            WRONG,
            ("wait_s of a hold", repr(bad)),
            books.call,
            door,
            "reserve",
            "boss",
            10,
            wait_s=bad,
        )


@pytest.mark.parametrize("bad", [-1, 1.5, True, "7", None, 2**40 + 1])
def test_usage_with_bad_buckets(bad: Any) -> None:
    """A usage that cannot be is refused when it is made."""
    for bucket in ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens"):
        with pytest.raises(ValueError, match=f"{bucket} must be a whole number between 0"):
            Usage(**{bucket: bad})
