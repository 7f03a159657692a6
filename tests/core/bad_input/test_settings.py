"""Settings, functions and managers that cannot be: the error says which and why."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.core.bad_input.conftest import Books

from tbcontracts import BudgetManager
from tbcontracts.errors import ConfigurationError


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
