"""The published package's wrappers for nodes and task runners, as doors to `BudgetManager.govern`.

New code does without: `tbcontracts_langgraph` and `tbcontracts_crewai` see each model call itself,
not only the function around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tbcontracts.contract import BudgetContract
from tbcontracts.manager import BudgetManager

__all__ = ["TBCCrewGovernor", "TBCGraphGovernor", "govern_agent", "govern_node"]

Function = TypeVar("Function", bound=Callable[..., Any])


def govern_node(
    manager: BudgetManager,
    agent_name: str,
    node: Function,
    usage_key: str | None = None,
    confidence_key: str | None = None,
) -> Function:
    """Return a node (plain, `async def` or a generator) that is held before it runs.

    Args:
        manager: Whose contracts and books.
        agent_name: The agent.
        node: Called with the state; returns an update of it.
        usage_key: Where the update says how many tokens were used. Where it does not, calls inside
            that an integration saw count, else an estimate that says so.
        confidence_key: Where the update has a score for the confidence gate.

    Raises:
        UnknownAgentError: The agent has no contract.
    """
    usage_fn = None if usage_key is None else _entry(usage_key)
    confidence_fn = None if confidence_key is None else _entry(confidence_key)
    return manager.govern(agent_name, confidence_fn, usage_fn)(node)


def govern_agent(
    manager: BudgetManager,
    agent_name: str,
    runner: Function,
    usage_fn: Callable[[Any], Any] | None = None,
    confidence_fn: Callable[[Any], Any] | None = None,
) -> Function:
    """Return a function that runs a task and is held before it does.

    Args:
        manager: Whose contracts and books.
        agent_name: The agent.
        runner: Runs the task and returns its result.
        usage_fn: Returns how many tokens a result took. If it fails, that is an estimate.
        confidence_fn: Scores a result for the confidence gate. If it fails, there is no score.

    Raises:
        UnknownAgentError: The agent has no contract.
    """
    return manager.govern(agent_name, confidence_fn, usage_fn)(runner)


class _Governor:
    """A manager, and functions under it.

    Args:
        manager: Whose contracts and books; a new one in memory if none is given.
    """

    def __init__(self, manager: BudgetManager | None = None) -> None:
        self.manager = BudgetManager() if manager is None else manager

    def register(self, agent_name: str, **contract: Any) -> BudgetContract:
        """Give an agent a contract; see `BudgetManager.register_agent`."""
        return self.manager.register_agent(agent_name, **contract)

    def report(self) -> dict[str, dict[str, int]]:
        """Return allocated, consumed and remaining of each agent."""
        return self.manager.report()


class TBCGraphGovernor(_Governor):
    """Contracts for nodes that are wrapped one by one."""

    def wrap(
        self,
        agent_name: str,
        node: Function,
        usage_key: str | None = None,
        confidence_key: str | None = None,
    ) -> Function:
        """Wrap a node; see `govern_node`."""
        return govern_node(self.manager, agent_name, node, usage_key, confidence_key)


class TBCCrewGovernor(_Governor):
    """Contracts for functions that run a crew's tasks."""

    def wrap(
        self,
        agent_name: str,
        runner: Function,
        usage_fn: Callable[[Any], Any] | None = None,
        confidence_fn: Callable[[Any], Any] | None = None,
    ) -> Function:
        """Wrap a function that runs a task; see `govern_agent`."""
        return govern_agent(self.manager, agent_name, runner, usage_fn, confidence_fn)


def _entry(key: str) -> Callable[[Any], Any]:
    """Return a function that finds a number in a node's update, and in `Command(update=...)`."""

    def find(result: Any) -> Any:
        update = result if isinstance(result, Mapping) else getattr(result, "update", None)
        value = update.get(key) if isinstance(update, Mapping) else None
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return find
