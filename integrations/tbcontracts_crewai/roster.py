"""Which agents a crew has, and the contract that each of them would be under."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import ContractPattern
from tbcontracts.roster import AgentFound, Roster, contracts_of, manager_beside, unmatched
from tbcontracts_crewai.config import (
    HELPER_ROLES,
    MANAGER_ROLE,
    Budget,
    Written,
    accounts_of,
    is_flow,
    left_out,
    members_of,
    written_in,
)
from tbcontracts_crewai.files import Filed, Path, read
from tbcontracts_crewai.roles import Roles, normalise, template_of

if TYPE_CHECKING:
    from typing import TypeGuard

_FOR_ALL_OTHERS = "for all others"


def agents_of(
    crew: Any,
    manager_or_file: BudgetManager | Path | None = None,
    *,
    budgets: Mapping[str, Budget] | Path | None = None,
    config: Any = None,
) -> Roster:
    """Return the agents of a crew, and the contract that each one resolves to.

    Takes what `govern_crew` takes. Nothing is changed, no store is opened, and nothing runs. The
    crews of a Flow are made in its steps: of a Flow nobody knows the agents beforehand.

    Args:
        crew: The crew.
        manager_or_file: Whose contracts; or a contract file.
        budgets: A contract for each role, or a contract file.
        config: The `agents_config` of a `@CrewBase` object, or that object.

    Raises:
        ConfigurationError: Something was given that cannot be used.

    Example:
        `print(agents_of(crew, budgets={"Researcher": {"max_tokens": 4000}}))`
    """
    filed = [read(given) for given in (manager_or_file, budgets) if _is_path(given)]
    beside = _beside(manager_or_file, filed)
    agents = members_of(crew)
    accounts = accounts_of(crew, agents, beside)
    nobodys: list[Written] = []
    for item in written_in(agents, filed=filed, budgets=budgets, config=config):
        account = accounts.get(item.role)
        if isinstance(item.contract, ContractPattern):
            beside.register(item.contract)
        elif account is None:
            nobodys.append(item)
        else:
            beside.register(item.contract.changed(agent_name=account))
    found = tuple(_found(crew, agents, beside))
    if is_flow(crew):
        return Roster(found)
    idle = unmatched((one.agent_name for one in contracts_of(beside)), found)
    return Roster(found, (*left_out(nobodys, accounts), *idle))


def agents_of_project(project: Any, contracts: Path | None = None) -> Roster:
    """Return the agents of a crew, a Flow, or a `@CrewBase` object, whose `budget:` blocks count.

    Raises:
        ConfigurationError: It is none of these, or the contracts cannot be read.
    """
    makes_a_crew = getattr(project, "crew", None)
    if callable(makes_a_crew) and hasattr(project, "agents_config"):
        return agents_of(makes_a_crew(), contracts, config=project)
    return agents_of(project, contracts)


def _is_path(given: object) -> TypeGuard[Path]:
    return isinstance(given, (str, os.PathLike))


def _beside(given: object, filed: list[Filed]) -> BudgetManager:
    """Return a manager in memory with the contracts of another, so that nobody's own is changed."""
    if isinstance(given, BudgetManager):
        beside = manager_beside(given.settings.unit, given.settings.unattributed)
        for contract in contracts_of(given):
            beside.register(contract)
        return beside
    if given is not None and not _is_path(given):
        msg = f"agents_of takes a BudgetManager or a contract file, not {type(given).__name__}."
        raise ConfigurationError(
            msg, remedy="What helps: budgets={role: {'max_tokens': ...}} for a mapping."
        )
    settings = filed[0].settings if filed else {}
    return manager_beside(settings.get("unit", "tokens"), settings.get("unattributed", "track"))


def _found(crew: Any, agents: list[Any], manager: BudgetManager) -> Iterator[AgentFound]:
    """Yield the agents of a crew, those too that CrewAI makes on the way."""
    roles = Roles(manager)
    led_by = getattr(crew, "manager_agent", None)
    for agent in agents:
        account = roles.learn(agent) or template_of(agent)
        where = "manager" if agent is led_by else "agent"
        yield _agent(account, where, manager, _rule(account, agent))
    for role, where in _helpers(crew, manager):
        account = roles.account(None, role) or role
        yield _agent(account, where, manager, "role")


def _helpers(crew: Any, manager: BudgetManager) -> Iterator[tuple[str, str]]:
    """Yield the agents that CrewAI makes itself, and what for."""
    hierarchical = str(getattr(getattr(crew, "process", None), "value", "")) == "hierarchical"
    if hierarchical and getattr(crew, "manager_agent", None) is None:
        yield MANAGER_ROLE, "manager, made at kickoff"
    known = {normalise(name) for name in manager.contracts}
    needed = {
        "Task Execution Planner": bool(getattr(crew, "planning", False)),
        "Guardrail Agent": any(
            isinstance(getattr(task, "guardrail", None), str) for task in getattr(crew, "tasks", ())
        ),
    }
    for role in HELPER_ROLES:
        if needed.get(role) or role in known:
            yield role, "helper, made when needed"


def _agent(account: str, where: str, manager: BudgetManager, rule: str) -> AgentFound:
    if manager.contract_of(account) is not None:
        by = "" if manager.is_registered(account) else ", by pattern"
        return AgentFound(account, where, account, f"{rule}{by}")
    pays_for_all = manager.settings.unattributed
    if isinstance(pays_for_all, BudgetContract):
        return AgentFound(account, where, pays_for_all.agent_name, _FOR_ALL_OTHERS)
    return AgentFound(account, where, None, "")


def _rule(account: str, agent: Any) -> str:
    """Return by what an agent's contract was found."""
    if normalise(account) == normalise(agent.role):
        return "role"
    return "role, as written" if normalise(account) == template_of(agent) else "placeholders"
