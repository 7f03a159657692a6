"""Arguments of `budgeted` are checked where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts import ContractConflictError, UnknownAgentError
from tbcontracts_langgraph import budgeted

pytestmark = pytest.mark.filterwarnings("ignore:On Python 3.10:UserWarning")


def test_arguments_are_checked_where_they_are_written(world: Any) -> None:
    """Mistakes are told at set-up, not in the middle of a run."""
    manager = world.manager
    with pytest.raises(UnknownAgentError):
        budgeted(manager, "nobody")
    with pytest.raises(TypeError, match="BudgetManager"):
        budgeted(None, "a")  # type: ignore[arg-type]
    manager.register_agent("a", max_tokens=10)
    with pytest.raises(ValueError, match="on_exceeded"):
        budgeted(manager, "a", on_exceeded="stop")
    with pytest.raises(TypeError, match="fallback of agent 'a'"):
        budgeted(manager, "a", on_exceeded={"fallback": 7})
    with pytest.raises(TypeError, match="closing of agent 'a'"):
        budgeted(manager, "a", closing="sum up")
    with pytest.raises(ContractConflictError):
        budgeted(manager, "a", max_tokens=11)
    with pytest.raises(TypeError, match="takes a function or a runnable"):
        budgeted(manager, "a")(7)
