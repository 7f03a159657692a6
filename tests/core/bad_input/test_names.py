"""Names, keys and scopes that are none, and agents that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.bad_input.conftest import WRONG, Books, both_doors

from tbcontracts import BudgetContract, BudgetManager, TBCError, UnknownAgentError
from tbcontracts.books import Statement
from tbcontracts.events import JournalEntry, Move
from tbcontracts.statement import statement_lines

BAD_NAMES: dict[Any, str] = {
    "": "must not be empty",
    " \t ": "must not",
    "a\nb": "control characters",
    "a\x00": "control characters",
    "\ud800": "bytes that were not read as text",
    "a\u202eb": "control characters",
    "a\u2066b": "control characters",
    "a\u2028b": "control characters",
    "a\u2029b": "control characters",
    "x" * 201: "200 UTF-8 bytes",
    "é" * 101: "200 UTF-8 bytes",
    7: "must be text, not int",
    None: "must be text, not NoneType",
    b"boss": "must be text, not bytes",
}


@both_doors
@pytest.mark.parametrize("bad", BAD_NAMES, ids=lambda bad: repr(bad)[:12])
def test_what_is_no_name(books: Books, door: str, bad: Any) -> None:
    """Empty, blank, with control characters, too long, or no text at all."""
    words = ("The agent name", BAD_NAMES[bad])
    for method, *args in (
        ("reserve", 10),
        ("record_usage", 10),
        ("remaining",),
        ("finish",),
        ("change_contract",),
        ("report_confidence", 0.5),
        ("reset_confidence",),
        *([] if bad is None else [("top_up", 10)]),
    ):
        books.refuses(WRONG, words, books.call, door, method, bad, *args)


@pytest.mark.parametrize("bad", BAD_NAMES, ids=lambda bad: repr(bad)[:12])
def test_what_is_no_name_where_nothing_is_awaited(books: Books, bad: Any) -> None:
    """The same for registering, decorating and naming the current agent."""
    manager, words = books.manager, ("The agent name", BAD_NAMES[bad])
    for method in (
        manager.register_agent,
        BudgetContract,
        manager.govern,
        manager.acting_as,
        manager.closing,
        lambda name: manager.within(BudgetManager(), agent=name),
    ):
        books.refuses(WRONG, words, method, bad)


@both_doors
@pytest.mark.parametrize("bad", [bad for bad in BAD_NAMES if bad is not None], ids=repr)
def test_what_is_no_key(books: Books, door: str, bad: Any) -> None:
    """Keys are names too; a bad one is neither used nor remembered."""
    words = ("The key", BAD_NAMES[bad])
    for method in ("reserve", "record_usage", "top_up"):
        books.refuses(WRONG, words, books.call, door, method, "boss", 10, key=bad)
    books.refuses(WRONG, words, books.call, door, "resolve", bad)


@both_doors
@pytest.mark.parametrize("bad", BAD_NAMES, ids=lambda bad: repr(bad)[:12])
def test_what_is_no_scope(books: Books, door: str, bad: Any) -> None:
    """Scopes are names; None means this one, for `close_scope` alone."""
    words = ("The scope name", BAD_NAMES[bad])
    books.refuses(WRONG, words, books.manager.scope, bad)
    books.refuses(WRONG, words, BudgetManager, scope=bad)
    if bad is not None:
        books.refuses(WRONG, words, books.call, door, "close_scope", bad)


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("a{b}", "has braces that are no period like {utc:%Y-%m}"),
        ("{utc:}", "has braces that are no period"),
        ("{utc:%Y-%m", "has braces that are no period"),
        ("}", "has braces that are no period"),
        ("acme/{utc:Y-m}", "The period 'Y-m' in the scope name 'acme/{utc:Y-m}' never changes"),
        ("{utc:%Y}/{utc:%n}", "The period '%n'"),
        ("{utc:%m%n%d}", "control characters"),
        ("{utc:%A%B" + "%Y" * 60 + "}", "200 UTF-8 bytes"),
    ],
)
def test_scopes_with_a_period_that_is_none(books: Books, scope: str, words: str) -> None:
    """A period that would never begin anew, or make no name, is told of before it is used."""
    books.refuses(ValueError, (words,), books.manager.scope, scope)
    books.refuses(ValueError, (words,), BudgetManager, scope=scope)


@both_doors
def test_an_agent_that_nobody_knows(books: Books, door: str) -> None:
    """The error names the nearest agent, and how to register this one."""
    words = ("No agent 'hlper' is registered", "Did you mean 'helper'?", "register_agent('hlper'")
    calls: list[Callable[[], object]] = [
        lambda: books.call(door, "reserve", "hlper", 10),
        lambda: books.call(door, "record_usage", "hlper", 10),
        lambda: books.call(door, "remaining", "hlper"),
        lambda: books.call(door, "top_up", "hlper", 10),
        lambda: books.call(door, "finish", "hlper"),
        lambda: books.call(door, "change_contract", "hlper", max_tokens=10),
        lambda: books.call(door, "report_confidence", "hlper", 0.5),
        lambda: books.call(door, "reset_confidence", "hlper"),
        lambda: books.manager.acting_as("hlper"),
        lambda: books.manager.closing("hlper"),
        lambda: books.manager.govern("hlper"),
        lambda: BudgetManager().within(books.manager, agent="hlper"),
    ]
    for call in calls:
        error = books.refuses(UnknownAgentError, words, call)
        assert isinstance(error, KeyError)
        assert isinstance(error, TBCError)


def test_an_agent_like_no_other(books: Books) -> None:
    """Where no name is near, none is guessed."""
    error = books.refuses(UnknownAgentError, (), books.manager.reserve, "zebra", 1)
    assert "Did you mean" not in str(error)


def test_joiners_in_a_name_stay() -> None:
    """A woman of science, and a name written from right to left, are names."""
    manager = BudgetManager()
    for name in ("\U0001f469\u200d\U0001f52c", "\u05d0\u200f1"):
        assert manager.register_agent(name).agent_name == name


def test_a_report_prints_names_of_others_safely() -> None:
    """Books that another program wrote may hold names that turn a line around."""
    plain = BudgetManager()
    plain.register_agent("a")
    account = plain.accounts()["a"]._replace(agent="a\u202eb\u2028", allocated=0, consumed=7)
    rest = (0, 0, 0, 0)
    entries = [
        JournalEntry(1, 0.0, "denied", "a\u2067", 5, None, (), *rest, {}),
        JournalEntry(2, 0.0, "held", "a\x1b", 5, None, (Move("d\u2029", 5),), *rest, {}),
    ]
    statement = Statement(2, 0, 0, closed=False, accounts=(account,))
    text = "\n".join(statement_lines(statement, entries, "s"))
    for escaped in (
        r"a\u202eb\u2028 ",
        r"a\u202eb\u2028 is overdrawn",
        r"a\u2067: ",
        r"d\u2029 -> a\x1b",
    ):
        assert escaped in text
    assert not {"\u202e", "\u2028", "\u2067", "\u2029", "\x1b"} & set(text)
