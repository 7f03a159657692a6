"""Calls inside a governed function: held for once, and another agent pays for itself."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.govern.conftest import REPLY, writer

from tbcontracts import BudgetExceededError, BudgetManager, Usage
from tbcontracts.endings import Ending
from tbcontracts.sizing import CallShape
from tbcontracts.tokens import size_request


def begun(manager: BudgetManager, prompt: str = "hi") -> Any:
    """Begin a call as an integration does."""
    return manager.begin_call("writer", CallShape(size_request([prompt]), output_cap=50))


def test_the_first_call_inside_is_the_one_that_was_held_for(manager: BudgetManager) -> None:
    """One call, one hold: what the call inside reports is what is charged, once."""

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        begun(manager).end(Ending(Usage.read(REPLY)))
        return REPLY  # the same request, seen twice

    write()
    assert writer(manager).consumed == 42

    assert [entry.kind for entry in manager.journal()] == ["opened", "held", "settled"]


def test_a_loop_inside_is_stopped() -> None:
    """Further calls inside hold for themselves, so a loop cannot pass the budget."""
    manager = BudgetManager()
    manager.register_agent("writer", max_tokens=500, max_output_tokens=50)
    sent: list[int] = []

    @manager.govern("writer")
    def loop() -> None:
        while True:
            call = begun(manager)
            sent.append(1)
            call.end(Ending(Usage(input_tokens=50, output_tokens=50)))

    with pytest.raises(BudgetExceededError):
        loop()
    assert writer(manager).consumed == 100 * len(sent) <= 500
    assert len(sent) == 5
    assert writer(manager).held == 0


def test_another_agent_inside_pays_for_itself(manager: BudgetManager) -> None:
    """A governed function that only calls others is charged nothing of its own."""
    manager.register_agent("helper", max_tokens=1_000)

    @manager.govern("helper")
    def help_out() -> dict[str, Any]:
        return REPLY

    @manager.govern("writer")
    def write() -> dict[str, Any]:
        return help_out()

    write()
    assert manager.report()["helper"]["consumed"] == 42
    assert manager.report()["writer"]["consumed"] == 0
    assert writer(manager).held == 0


def test_an_end_that_comes_later_replaces_the_estimate(manager: BudgetManager) -> None:
    """A call that was left running in the background is an estimate until it ends."""
    calls: list[Any] = []

    @manager.govern("writer")
    def write() -> None:
        calls.append(begun(manager, "word " * 10))

    write()
    assert writer(manager).consumed == writer(manager).unmeasured > 0
    calls[0].end(Ending(Usage(input_tokens=5, output_tokens=6)))
    assert (writer(manager).consumed, writer(manager).unmeasured) == (11, 0)


def test_a_rejected_call_inside_is_free(manager: BudgetManager) -> None:
    """A call inside that proves to be unbilled gives the hold back."""

    @manager.govern("writer")
    def write() -> str:
        begun(manager).end(Ending(unbilled=True))
        return "from the cache"

    write()
    assert (writer(manager).consumed, writer(manager).held) == (0, 0)
