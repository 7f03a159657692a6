"""Names, amounts and settings that a manager refuses, and that nothing changes by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.core.manager.team import small_team

from tbcontracts import BudgetContract, BudgetManager, UnknownAgentError
from tbcontracts.errors import ConfigurationError


def test_unknown_agents_are_named_with_the_nearest() -> None:
    """An unknown name is a TBCError and a KeyError that helps."""
    manager = small_team()
    for call in (
        lambda: manager.reserve("hlper", 1),
        lambda: manager.record_usage("hlper", 1),
        lambda: manager.remaining("hlper"),
        lambda: manager.top_up("hlper", 1),
        lambda: manager.acting_as("hlper"),
    ):
        with pytest.raises(UnknownAgentError, match="Did you mean 'helper'") as unknown:
            call()
        assert isinstance(unknown.value, KeyError)


@pytest.mark.parametrize("bad", [-1, 2**40 + 1, 1.5, float("nan"), float("inf"), True, "7", None])
def test_bad_amounts_change_nothing(bad: Any) -> None:
    """Bad numbers raise at the door, say what they are, and leave the books alone."""
    manager = small_team()
    hold = manager.reserve("boss", 10)
    before = manager.statement()
    calls: list[Callable[[], object]] = [
        lambda: manager.reserve("boss", bad),
        lambda: manager.record_usage("boss", bad),
        lambda: manager.top_up("boss", bad),
        lambda: hold.settle(bad),
        lambda: manager.register_agent("new", max_tokens=bad),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=r"boss|new"):
            call()
    assert manager.statement() == before


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "x" * 201, "é" * 101, 7, None])
def test_bad_names_are_refused(name: Any) -> None:
    """Names are 1..200 bytes without control characters."""
    with pytest.raises((TypeError, ValueError), match="name"):
        BudgetContract(name)


def test_names_have_one_spelling() -> None:
    """Names are compared after NFC and without blanks around them."""
    manager = BudgetManager()
    manager.register_agent("  Cafe\u0301 ", max_tokens=10)
    manager.reserve("Caf\u00e9", 5)
    assert list(manager.report()) == ["Caf\u00e9"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("enforcement", "hard"),
        ("unit", "euros"),
        ("policy", "rolling"),
        ("unattributed", "ignore"),
        ("on_contract_change", "ask"),
        ("on_store_error", "ask"),
        ("outbox", 7),
        ("count", "words"),
        ("store", "nosuch://x"),
        ("store", 7),
    ],
)
def test_settings_that_are_not_known_say_which_are(setting: str, value: Any) -> None:
    """A wrong setting is refused when the manager is made."""
    with pytest.raises(ConfigurationError):
        BudgetManager(**{setting: value})
