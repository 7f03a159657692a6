"""Faults that are planted in the product: the checks of the applications find each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.apps import harness
from tests.apps.graph_cases import DEEP_AGENTS, SUPERVISOR, SWARM

from tbcontracts import Usage
from tbcontracts_langchain import attribution, model_calls
from tbcontracts_langchain.usage import reported_usage

_find_agent = attribution.find_agent


def _one_more(response: Any) -> Usage | None:
    """Read a reply's usage one token too high."""
    usage = reported_usage(response)
    return usage and usage + Usage(input_tokens=1)


def _by_segment(at: int) -> Callable[..., str | None]:
    """Return attribution by one segment of the path alone."""

    def find(name: Any, metadata: Any, *_: Any) -> str | None:
        path = attribution.path_of(metadata)
        return path[at] if path else None

    return find


def _without_own_names(name: Any, *rest: Any) -> str | None:
    """Attribute as we do, but without the agents' own names."""
    return _find_agent(name._replace(agent_name=None, agent_is_inner=False), *rest)


FAULTS = {
    "the estimate is booked, not the usage": (SWARM, "reported_usage", lambda _: None),
    "one token too many is booked": (SWARM, "reported_usage", _one_more),
    "the last segment is the agent": (SUPERVISOR, "find_agent", _by_segment(-1)),
    "the first segment is the agent": (SUPERVISOR, "find_agent", _by_segment(0)),
    "agents' own names do not count": (DEEP_AGENTS, "find_agent", _without_own_names),
}


@pytest.mark.filterwarnings("ignore:.*o contract:UserWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's first check fails with it, and passes without."""
    case, name, planted = FAULTS[fault]
    if case is DEEP_AGENTS and sys.version_info < (3, 11):
        pytest.skip("deepagents is not made for Python 3.10")
    with monkeypatch.context() as patched:
        patched.setattr(model_calls, name, planted)
        with pytest.raises(AssertionError, match="the books are not the provider's log"):
            harness.changes_nothing(case)
    harness.changes_nothing(case)


def test_a_request_that_no_hold_allows_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that goes out in spite of its refusal is one after the first refusal."""
    real = model_calls.ModelCalls.begin

    def deaf(self: Any, start: Any) -> None:
        try:
            real(self, start)
        except Exception:  # the refusal, which is to be overheard here
            return

    monkeypatch.setattr(model_calls.ModelCalls, "begin", deaf)
    with pytest.raises(AssertionError):
        harness.stops(SWARM)
