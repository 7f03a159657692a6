"""Bad input, at both doors: the error says what, whom, which value and what to do.

Nothing of it is on the books afterwards: statement and journal are what they were.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tbcontracts import (
    BudgetContract,
    BudgetExceededError,
    BudgetManager,
    ContractConflictError,
    IdempotencyConflictError,
    TBCError,
    UnknownAgentError,
    Usage,
)
from tbcontracts.books import Statement
from tbcontracts.errors import ConfigurationError, HoldResolvedError, ScopeClosedError
from tbcontracts.events import JournalEntry, Move
from tbcontracts.statement import statement_lines

WRONG = (TypeError, ValueError)
BAD_AMOUNTS: dict[Any, str] = {
    -1: "-1",
    2**40 + 1: "1,099,511,627,777",
    10**400: "a larger number",
    1e300: "a larger number",
    math.nan: "nan",
    math.inf: "inf",
    1.5: "1.5",
    True: "bool",
    "7": "str",
    None: "NoneType",
    (7,): "tuple",
}
BAD_NAMES: dict[Any, str] = {
    "": "must not be empty",
    " \t ": "must not",
    "a\nb": "control characters",
    "a\x00": "control characters",
    "\ud800": "control characters",
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
BAD_SECONDS = (0, -1, math.nan, math.inf, True, "60")
BAD_SCORES: dict[Any, str] = {
    -0.1: "-0.1",
    1.01: "1.01",
    math.nan: "nan",
    math.inf: "inf",
    True: "bool",
    "0.5": "str",
}


class Books(NamedTuple):
    """A manager, and what its books must still say afterwards."""

    manager: BudgetManager
    before: tuple[Any, ...]

    def call(self, door: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method at one of the two doors."""
        if door == "sync":
            return getattr(self.manager, method)(*args, **kwargs)

        async def awaited() -> Any:
            return await getattr(self.manager, f"a{method}")(*args, **kwargs)

        return asyncio.run(awaited())

    def refuses(
        self, error: Any, words: tuple[str, ...], call: Callable[..., object], *args: Any, **kw: Any
    ) -> Any:
        """Check that a call raises, with these words in its text, and leaves no trace."""
        with pytest.raises(error) as raised:
            call(*args, **kw)
        for word in words:
            assert word in str(raised.value)
        assert seen(self.manager) == self.before
        return raised.value


def seen(manager: BudgetManager) -> tuple[Any, ...]:
    """Return all that can be seen of a manager."""
    return manager.statement(), manager.journal(), dict(manager.contracts), manager.current_agent


def watched(manager: BudgetManager) -> Books:
    """Return a manager with what it looks like now."""
    return Books(manager, seen(manager))


@pytest.fixture
def books() -> Books:
    """Return a manager in the middle of its work."""
    manager = BudgetManager()
    manager.register_agent("boss", priority=3, max_tokens=1_000, confidence_threshold=0.9)
    manager.register_agent("helper", priority=1, max_tokens=500)
    manager.record_usage("boss", 100, confidence=0.5)
    manager.reserve("helper", 50)
    return watched(manager)


both_doors = pytest.mark.parametrize("door", ["sync", "async"])


# --- numbers --------------------------------------------------------------------------------------


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


# --- names ----------------------------------------------------------------------------------------


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


# --- contracts ------------------------------------------------------------------------------------


def test_a_second_registration(books: Books) -> None:
    """The same one changes nothing; a different one says both, and what to call."""
    same = {"priority": 3, "max_tokens": 1_000, "confidence_threshold": 0.9}
    books.manager.register_agent(" boss ", **same)  # type: ignore[arg-type]
    assert seen(books.manager) == books.before
    words = ("Agent 'boss' is registered already", "max_tokens=1000", "max_tokens=2000")
    books.refuses(
        ContractConflictError,
        (*words, "manager.change_contract('boss', ...)"),
        lambda: books.manager.register_agent("boss", priority=3, max_tokens=2_000),
    )
    books.refuses(TypeError, ("must be a BudgetContract, not str",), books.manager.register, "boss")


@both_doors
def test_changes_that_no_contract_has(books: Books, door: str) -> None:
    """A field that does not exist is named, beside those that do; a name is not changed."""
    words = ("no field 'max_token'", "min_reserve", "Did you mean 'max_tokens'?")
    books.refuses(TypeError, words, books.call, door, "change_contract", "boss", max_token=10)
    books.refuses(
        TypeError,
        ("Agent 'boss' keeps its name",),
        books.call,
        door,
        "change_contract",
        "boss",
        agent_name="helper",
    )
    books.refuses(
        ValueError,
        ("min_reserve of agent 'boss'", "1,000", "1,001"),
        books.call,
        door,
        "change_contract",
        "boss",
        min_reserve=1_001,
    )


# --- holds ----------------------------------------------------------------------------------------


def end(door: str, hold: Any, method: str, *args: Any) -> Any:
    """End or extend a hold at one of the two doors."""
    if door == "sync":
        return getattr(hold, method)(*args)

    async def awaited() -> Any:
        return await getattr(hold, method)(*args)

    return asyncio.run(awaited())


@both_doors
@pytest.mark.parametrize(
    ("first", "again", "words"),
    [
        (("settle", 70), ("settle", 71), "settled with 70 before; it cannot be settled with 71"),
        (("settle", 70), ("void",), "was settled with 70 before; it cannot be voided now"),
        (("void",), ("settle", 70), "was voided before; it cannot be settled with 70 now"),
        (("settle", 70), ("extend", 60), "is settled already and cannot be extended"),
        (("void",), ("extend", 60), "is voided already and cannot be extended"),
    ],
)
def test_a_hold_is_ended_once(
    books: Books, door: str, first: tuple[Any, ...], again: tuple[Any, ...], words: str
) -> None:
    """Another end is an error that says the first one; the same end again is the first one."""
    hold = books.call(door, "reserve", "boss", 100)
    reply = end(door, hold, *first)
    after = watched(books.manager)
    told = (words, hold.hold_id, "What helps")
    after.refuses(HoldResolvedError, told, end, door, hold, *again)
    assert end(door, hold, *first) == reply
    assert seen(books.manager) == after.before


@both_doors
@pytest.mark.parametrize("bad", BAD_AMOUNTS, ids=lambda bad: repr(bad)[:12])
def test_a_hold_settled_with_nonsense_stays_open(books: Books, door: str, bad: Any) -> None:
    """The error names the agent and the value, and the hold can still be ended rightly."""
    hold = books.call(door, "reserve", "boss", 100)
    after = watched(books.manager)
    words = ("The usage of agent 'boss' must be", BAD_AMOUNTS[bad])
    after.refuses(WRONG, words, end, door, hold, "settle", bad)
    assert not hold.resolved
    assert end(door, hold, "settle", 40).amount == 40


@both_doors
@pytest.mark.parametrize("bad", BAD_SECONDS)
def test_a_hold_is_not_extended_by_nonsense(books: Books, door: str, bad: Any) -> None:
    """The limit of a hold is a positive, finite number of seconds."""
    hold = books.call(door, "reserve", "boss", 100)
    after = watched(books.manager)
    words = ("ttl_s of the hold of agent 'boss' must be", repr(bad))
    after.refuses(WRONG, words, end, door, hold, "extend", bad)


@both_doors
def test_a_key_that_was_used_for_something_else(books: Books, door: str) -> None:
    """A key belongs to one command; blanks around it do not make another key of it."""
    books.call(door, "record_usage", "boss", 10, key="k")
    after = watched(books.manager)
    assert books.call(door, "record_usage", "boss", 10, key=" k ").amount == 10
    for method, tokens in (("record_usage", 11), ("reserve", 10), ("top_up", 10)):
        after.refuses(
            IdempotencyConflictError,
            ("'k'", "for another command or other arguments", "a new key"),
            *(books.call, door, method, "boss", tokens),
            key="k",
        )


@both_doors
def test_a_closed_scope_takes_nothing_new(books: Books, door: str) -> None:
    """Holds are refused as such, administration as an error; both say what helps."""
    books.call(door, "close_scope")
    after = watched(books.manager)
    with pytest.raises(
        BudgetExceededError, match=r"scope 'default' is closed.*another scope"
    ) as no:
        books.call(door, "reserve", "boss", 1)
    assert no.value.code == "scope_closed"
    assert books.manager.accounts()["boss"].held == 0
    after = watched(books.manager)
    for method, args, fields in (
        ("top_up", ("boss", 10), {}),
        ("top_up", (None, 10), {}),
        ("change_contract", ("boss",), {"max_tokens": 2_000}),
    ):
        after.refuses(
            ScopeClosedError,
            ("closed", "What helps: another scope"),
            books.call,
            door,
            method,
            *args,
            **fields,
        )


def test_a_hold_that_would_stop_the_loop(books: Books) -> None:
    """A blocking wait inside an event loop is refused with the call to make instead."""

    async def inside() -> None:
        books.manager.reserve("boss", 10, wait_s=1)

    words = ("would block the event loop", "await manager.areserve")
    books.refuses(ConfigurationError, words, asyncio.run, inside())


# --- settings and functions -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("enforcement", "hard", '"observe", "expected", "strict", not \'hard\''),
        ("enforcement", None, "enforcement must be one of"),
        ("unit", "eur", "unit must be"),
        ("unit", 7, "unit must be"),
        ("policy", "fair", "policy must be"),
        ("unattributed", "ignore", '"track", "deny" or a contract, not \'ignore\''),
        ("on_contract_change", "ask", '"keep", "apply", "raise", not \'ask\''),
        ("on_store_error", "retry", "on_store_error must be"),
        ("count", "words", '"total", "uncached" or a weight for each bucket, not \'words\''),
        ("count", None, "count must be"),
        ("count", {"inputs": 1}, "count has no bucket 'inputs'; the buckets are input,"),
        ("count", {7: 1, "z": 2}, "count has no bucket"),
        (
            "count",
            {"input": -1},
            "count: the weight of 'input' must be a number between 0 and 1,000,000, not -1",
        ),
        ("count", {"input": math.nan}, "count: the weight of 'input' must be"),
        ("count", {"input": True}, "count: the weight of 'input' must be"),
        ("count", {"input": "1"}, "count: the weight of 'input' must be"),
        ("store", None, "store must be a URL or a store, not NoneType"),
        ("store", "", "No store is installed for the URL scheme '(no scheme)'"),
        ("store", "nosuch://x", "No store is installed for the URL scheme 'nosuch'"),
        ("clock", 7, "clock must be a function that returns seconds, not int"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: Any, words: str) -> None:
    """The error names the setting, the value, and what there is."""
    with pytest.raises(ConfigurationError) as raised:
        BudgetManager(**{setting: value})
    assert words in str(raised.value)


def test_functions_that_are_none(books: Books) -> None:
    """What is to be called is looked at before anything is charged."""
    manager = books.manager
    function: Any = 7
    for call, words in (
        (lambda: manager.govern("boss", function), "confidence_fn of agent 'boss' must be"),
        (lambda: manager.govern("boss", usage_fn=function), "usage_fn of agent 'boss' must be"),
        (lambda: manager.govern("boss", ask_fn=function), "ask_fn of agent 'boss' must be"),
        (lambda: manager.govern("boss")(function), "govern('boss') decorates a function, not int"),
        (lambda: manager.add_listener(function), "A listener must be a function"),
    ):
        books.refuses(TypeError, (words, "int"), call)


def test_managers_that_cannot_be_within_one_another(books: Books) -> None:
    """Nothing else than another manager, no circles, and no second parent in place of the first."""
    manager, team = books.manager, BudgetManager()
    team.register_agent("crew", max_tokens=1_000)
    month = BudgetManager()
    month.register_agent("team", max_tokens=5_000)
    nobody: Any = None
    within_team = manager.within(team, agent="crew")
    for call, words in (
        (lambda: manager.within(nobody, agent="crew"), "within a BudgetManager, not NoneType"),
        (lambda: manager.within(manager, agent="boss"), "cannot be within itself"),
        (lambda: team.within(within_team, agent="boss"), "cannot be within itself"),
        (lambda: within_team.within(month, agent="team"), "within agent 'crew' of another one"),
    ):
        books.refuses(ConfigurationError, (words,), call)
    chain = manager.within(team.within(month, agent="team"), agent="crew")
    chain.reserve("boss", 10)
    assert [books.accounts()[name].held for books, name in ((team, "crew"), (month, "team"))] == [
        10,
        10,
    ]


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
