"""Contracts of a crew: gathered from where users write them, matched with the agents it has."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tbcontracts import BudgetContract, BudgetManager
from tbcontracts.attribution import nearest
from tbcontracts.contract import written_contract
from tbcontracts.errors import ConfigurationError
from tbcontracts.patterns import ContractPattern
from tbcontracts.roster import Unmatched, no_contract_for, nobody_is_called
from tbcontracts_crewai.files import Filed
from tbcontracts_crewai.instead import check_fallback
from tbcontracts_crewai.roles import Roles, normalise, template_of

MANAGER_ROLE = "Crew Manager"
"""The manager that CrewAI makes for a hierarchical crew once its kickoff has begun."""
HELPER_ROLES = ("Guardrail Agent", "Task Execution Planner", "Task Execution Evaluator")
"""Agents that CrewAI makes on the way; they get a contract where somebody names them."""

Budget = BudgetContract | Mapping[str, Any]
_FIELDS = frozenset((*BudgetContract.__dataclass_fields__, "max_usd", "min_reserve_usd")) - {
    "agent_name",
    "unit",
}


class Written(NamedTuple):
    """A contract as it was written down."""

    role: str
    contract: BudgetContract
    where: str


def register_contracts(
    crew: Any,
    manager: BudgetManager,
    roles: Roles,
    *,
    filed: Iterable[Filed] = (),
    budgets: object = None,
    config: object = None,
) -> None:
    """Register the contracts of the agents that a crew has, and say what was left out.

    Raises:
        ConfigurationError: Budgets or config have a shape that cannot be read.
        ContractConflictError: One agent got two different contracts.
        TypeError: A field does not exist, or a value has the wrong type.
        ValueError: A value is out of range.
    """
    agents = members_of(crew)
    accounts = accounts_of(crew, agents, manager)
    grows = is_flow(crew)
    written = written_in(agents, filed=filed, budgets=budgets, config=config)
    unmatched: list[Written] = []
    for item in written:
        check_fallback(item.contract)
    for item in written:
        account = accounts.get(item.role, item.role if grows else None)
        if isinstance(item.contract, ContractPattern):
            if not grows and not any(fnmatchcase(name, item.role) for name in accounts.values()):
                unmatched.append(item)
            manager.register(item.contract)
        elif account is None:
            unmatched.append(item)
        else:
            manager.register(item.contract.changed(agent_name=account))
    for agent in agents:
        account = roles.learn(agent) or ""
        pattern = None if manager.is_registered(account) else manager.pattern_of(account)
        if pattern is not None:
            manager.register(pattern.contract_of(account))
        contract = manager.contract_of(account)
        if contract is not None:
            check_fallback(contract)
    _say_what_is_left_out(unmatched, agents, accounts)
    _say_who_has_none(agents, manager, roles)


def written_in(
    agents: Iterable[Any], *, filed: Iterable[Filed] = (), budgets: object = None, config: object
) -> list[Written]:
    """Return the contracts that were written down, wherever users write them.

    Raises:
        ConfigurationError: Budgets or config have a shape that cannot be read.
    """
    return [
        *_from_files(filed),
        *_from_budgets(budgets),
        *_from_config(config),
        *_from_agents(agents),
    ]


def is_flow(crew: Any) -> bool:
    """Return whether this is a Flow, whose crews are made in its steps: nobody knows them yet."""
    return any(kind.__name__ == "Flow" for kind in type(crew).__mro__)


def members_of(crew: Any) -> list[Any]:
    """Return the agents of a crew, with its manager if it has one already.

    Raises:
        ConfigurationError: This is neither a crew nor a Flow.
    """
    if is_flow(crew):
        return []
    agents = getattr(crew, "agents", None)
    if agents is None or not callable(getattr(crew, "kickoff", None)):
        msg = f"What is needed is a Crew or a Flow, not {type(crew).__name__}."
        helps = "What helps: of a @CrewBase object, pass what its crew() returns."
        raise ConfigurationError(msg, remedy=helps)
    found = [*agents, getattr(crew, "manager_agent", None)]
    found += [getattr(task, "agent", None) for task in getattr(crew, "tasks", ())]
    kept: list[Any] = []
    for agent in found:
        if agent is not None and not any(agent is known for known in kept):
            kept.append(agent)
    return kept


def accounts_of(crew: Any, agents: Iterable[Any], manager: BudgetManager) -> dict[str, str]:
    """Return the account of every role that this crew can have, by each of its spellings."""
    known = {normalise(name): name for name in manager.contracts}
    helpers = [*HELPER_ROLES]
    if str(getattr(getattr(crew, "process", None), "value", "")) == "hierarchical":
        helpers.append(MANAGER_ROLE)
    accounts = known if is_flow(crew) else {}
    accounts |= {name: known.get(name, name) for name in helpers}
    for agent in agents:
        template, role = template_of(agent), normalise(agent.role)
        account = known.get(template) or known.get(role) or template
        accounts.setdefault(role, account)
        accounts[template] = account
    return accounts


def _from_files(filed: Iterable[Filed]) -> Iterator[Written]:
    """Yield the contracts of contract files."""
    for file in filed:
        for contract in file.contracts:
            yield _written(contract.agent_name, contract, file.where)


def _from_budgets(budgets: object) -> Iterator[Written]:
    """Yield the contracts of `budgets=`."""
    if budgets is None or isinstance(budgets, (str, os.PathLike)):
        return
    if not isinstance(budgets, Mapping):
        msg = f"budgets must be a mapping of roles or a file, not {type(budgets).__name__}."
        raise ConfigurationError(msg, remedy="What helps: {'Researcher': {'max_tokens': 4000}}.")
    for role, budget in budgets.items():
        yield _written(role, budget, "budgets")


def _from_config(config: object) -> Iterator[Written]:
    """Yield the contracts of agents.yaml: its mapping, or the @CrewBase object that read it."""
    if config is None:
        return
    entries = config if isinstance(config, Mapping) else getattr(config, "agents_config", None)
    if not isinstance(entries, Mapping):
        msg = f"config must be an agents_config mapping, not {type(config).__name__}."
        helps = "What helps: the @CrewBase object, or its agents_config."
        raise ConfigurationError(msg, remedy=helps)
    for key, entry in entries.items():
        if not isinstance(entry, Mapping) or entry.get("budget") is None:
            continue
        if not normalise(entry.get("role")):
            msg = f"The agent {key!r} in config has a budget but no role."
            raise ConfigurationError(msg, remedy="What helps: budgets={role: ...} for it.")
        yield _written(entry["role"], entry["budget"], f"config[{key!r}]")


def _from_agents(agents: Iterable[Any]) -> Iterator[Written]:
    """Yield the contracts that agents carry themselves."""
    for agent in agents:
        budget = getattr(agent, "budget", None)
        if budget is not None:
            yield _written(template_of(agent), budget, "the agent's own budget")


def _written(role: object, budget: object, where: str) -> Written:
    """Return a contract as it was written, under the one spelling of its role."""
    name = normalise(role)
    if isinstance(budget, BudgetContract):
        if normalise(budget.agent_name) != name:
            msg = f"{where} has the contract of {budget.agent_name!r} under the role {name!r}."
            raise ConfigurationError(msg, remedy="What helps: the same name in both places.")
        return Written(name, budget, where)
    if not isinstance(budget, Mapping):
        msg = f"The budget of {name!r} in {where} must be a contract or a mapping of its fields."
        raise ConfigurationError(msg, remedy="What helps: {'max_tokens': 4000, 'priority': 2}.")
    unknown = sorted(str(field) for field in budget if field not in _FIELDS)
    if unknown:
        near = nearest(unknown[0], _FIELDS)
        hint = f" Did you mean {near!r}?" if near else ""
        msg = f"The budget of {name!r} in {where} has no field {unknown[0]!r}.{hint}"
        raise ConfigurationError(msg, remedy=f"Its fields are {', '.join(sorted(_FIELDS))}.")
    return Written(name, written_contract(name, budget, as_written=True), where)


def left_out(items: Iterable[Written], accounts: Mapping[str, str]) -> list[Unmatched]:
    """Return contracts that no agent of a crew would ever use."""
    return [Unmatched(item.role, nearest(item.role, accounts), item.where) for item in items]


def _say_what_is_left_out(
    unmatched: list[Written], agents: Iterable[Any], accounts: Mapping[str, str]
) -> None:
    """Warn of contracts that are not registered, so that nobody's budget lies idle."""
    if unmatched:
        msg = nobody_is_called(left_out(unmatched, accounts), map(template_of, agents))
        warnings.warn(msg, UserWarning, stacklevel=4)


def _say_who_has_none(agents: Iterable[Any], manager: BudgetManager, roles: Roles) -> None:
    """Warn of agents without a contract where others have one."""
    if not (manager.contracts or manager.patterns) or isinstance(
        manager.settings.unattributed, BudgetContract
    ):
        return
    accounts = {roles.learn(agent) or "" for agent in agents}
    without = sorted(name for name in accounts if manager.contract_of(name) is None)
    if without:
        refused = manager.settings.denies_unattributed
        msg = no_contract_for(without, manager.contracts, refused=refused)
        warnings.warn(msg, UserWarning, stacklevel=4)
