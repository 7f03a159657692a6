"""Faults that are planted in the product: the checks of the crews find each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.apps import harness
from tests.apps.crew_cases import HIERARCHICAL, SHARED, STRUCTURED
from tests.apps.crews import CrewCase

from tbcontracts import Usage
from tbcontracts_crewai import kickoffs, listening, roles

_read = Usage.read


class _OneMore(Usage):
    """Usage that is read one token too high."""

    @classmethod
    def read(cls, reported: object) -> Usage:
        """Read what a provider reported, and a token that it did not."""
        return _read(reported) + Usage(input_tokens=1)


class _Unread(Usage):
    """Usage that is never read, so that estimates are booked."""

    @classmethod
    def read(cls, reported: object) -> Usage:
        """Leave what a provider reported unread."""
        return cls.unknown(reported)


def _as_it_stands(self: roles.Roles, agent_id: str | None, role: str | None) -> str | None:
    """Find an agent's account by its role alone, as the kickoff filled it in."""
    return roles.normalise(role) or None


FAULTS: dict[str, tuple[CrewCase, Any, str, Any]] = {
    "the estimate is booked, not the usage": (SHARED, listening, "Usage", _Unread),
    "one token too many is booked": (SHARED, listening, "Usage", _OneMore),
    "a role that was filled in is another agent": (SHARED, roles.Roles, "account", _as_it_stands),
    "calls without an agent are nobody's": (
        STRUCTURED,
        kickoffs.Place,
        "account",
        property(lambda self: None),
    ),
}


@pytest.mark.filterwarnings("ignore:.*o contract:UserWarning")
@pytest.mark.filterwarnings("ignore:A call :UserWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's first check fails with it, and passes without."""
    case, owner, name, planted = FAULTS[fault]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, planted)
        with pytest.raises(AssertionError, match="the books are not the provider's log"):
            harness.changes_nothing(case)
    harness.changes_nothing(case)


def test_a_refusal_that_is_not_final_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that goes on at cost after a coworker's refusal sends requests, which are seen."""

    def forget(self: kickoffs.Kickoff, refusal: Exception) -> None:
        """Let the kickoff go on."""

    refuse: Callable[..., None] = forget
    monkeypatch.setattr(kickoffs.Kickoff, "refuse", refuse)
    with pytest.raises(AssertionError):
        harness.starves(HIERARCHICAL)
